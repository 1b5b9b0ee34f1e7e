"""Every bound of the system, in one place, each with its reason. Units stand last in the names.

Nothing that a stranger can make grow is without a line here.
"""

from typing import Final

# --- Wire ---------------------------------------------------------------------------------------------------------
DATAGRAM_BYTES_MAX: Final = 1200  # fits the IPv6 minimum MTU of 1,280 with headers: nothing fragments
DATAGRAM_BYTES_RECEIVE_MAX: Final = 8400  # stock peers send up to 8,192 bytes and a header; more is dropped unread
RECORD_BYTES_MAX: Final = 1000  # a record with the envelope of any verb around it stays within one datagram
DRAIN_DATAGRAMS_MAX: Final = 32  # per turn of the event loop: an endless stream must not starve timers
SOCKET_BUFFER_BYTES: Final = 1 << 21  # absorbs a burst while the loop is busy elsewhere
CONTACTS_PER_REPLY_MAX: Final = 20  # k; a longer list is cut, never followed

# --- Records ------------------------------------------------------------------------------------------------------
ORDER_LIFE_S_MAX: Final = 7 * 86_400  # longer offers go stale; the maker can publish again
ORDER_LIFE_S_DEFAULT: Final = 86_400
CLOCK_SKEW_S_MAX: Final = 120  # a record may come from a clock that is this far ahead
TOMBSTONE_S: Final = 86_400  # a Status outlives its order by this, so that a late copy cannot revive it
NOTE_CHARS_MAX: Final = 140
NOTE_BYTES_MAX: Final = 280  # in UTF-8
PAYMENTS_MAX: Final = 8
PAYMENT_CHARS_MAX: Final = 24
REFERENCE_CHARS_MAX: Final = 36  # a UUID
NETWORK_CHARS_MAX: Final = 24
TICKER_CHARS_MAX: Final = 10
MESSAGE_BYTES_MAX: Final = 280  # of clear text; sealed it is 48 longer
SEALED_BYTES_MAX: Final = MESSAGE_BYTES_MAX + 48
MONEY_DIGITS_MAX: Final = 30  # in all, before and behind the point
MONEY_INTEGER_DIGITS_MAX: Final = 15  # a price of 10^15 is a mistake in every currency
ACCEPT_DEADLINE_S_MAX: Final = 86_400  # for orders that a person or an absent maker decides
ACCEPT_DEADLINE_S_DEFAULT: Final = 60  # for orders that a running node decides
ACCEPT_GRACE_S: Final = 15  # after the deadline a decision may still be on its way
BEAT_INTERVAL_S: Final = 30
BEAT_AGE_S_MAX: Final = 90  # three beats missed: the maker is silent

# --- Stamp --------------------------------------------------------------------------------------------------------
STAMP_BITS_PUBLIC: Final = 16  # four puzzles of 2^16 hashes of 4 KiB: about a second of one core
STAMP_BITS_MAX: Final = 24  # asked bits above this are a mistake or an attack
STAMP_PUZZLES: Final = 4  # several small puzzles vary less than a big one
STAMP_MESSAGE_BYTES: Final = 4096  # long messages leave native code little to gain over hashlib
STAMP_ACCEPT_BITS_LESS: Final = 4  # an accept costs a sixteenth: it names one order and lives for a minute
STAMP_HOURS_SKEW: Final = 2  # a stamp's hour may differ from its record's by this

# --- Overlay ------------------------------------------------------------------------------------------------------
BUCKET_SIZE: Final = 20  # k of the paper
REPLACEMENTS_PER_BUCKET: Final = 8
HOLDERS: Final = 8  # r: how many nodes hold a key
LOOKUP_PARALLEL: Final = 4  # alpha
LOOKUP_CONTACTS: Final = 8  # contacts in a reply of our own verbs; leaves room for records
LOOKUP_CANDIDATES_MAX: Final = 64  # a liar can invent contacts without end
LOOKUP_REQUESTS_MAX: Final = 48
LOOKUP_S_MAX: Final = 10.0
REQUEST_TRIES: Final = 3
REQUEST_TIMEOUT_S_FIRST: Final = 0.5  # before a peer's round trip is known
REQUEST_TIMEOUT_S_MIN: Final = 0.05
REQUEST_TIMEOUT_S_MAX: Final = 3.0
REQUESTS_OUTSTANDING_MAX: Final = 4096
FAILURES_BEFORE_EVICTION: Final = 3
PEERS_PER_SUBNET_IN_BUCKET: Final = 2
PEERS_PER_SUBNET_IN_TABLE: Final = 10
STOCK_PEERS_PER_BUCKET: Final = 4  # they route for us, but verify nothing
TOKEN_LIFE_S: Final = 600.0  # two secrets rotate, as in BEP 5
REFRESH_INTERVAL_S: Final = 600.0
PING_IDLE_S: Final = 120.0
BOOTSTRAP_RETRY_S_MIN: Final = 1.0
BOOTSTRAP_RETRY_S_MAX: Final = 60.0
REPLICATE_INTERVAL_S: Final = 1800.0  # a holder hands its records on this often, jittered
REPUBLISH_INTERVAL_S: Final = 900.0  # a maker makes sure of its holders this often, jittered
STRANGER_DATAGRAMS_PER_S: Final = 2000  # all unverified addresses together
PEER_DATAGRAMS_PER_S: Final = 4000  # one verified address; 64 honest nodes may share one
ADDRESSES_TRACKED_MAX: Final = 8192
PARKED_REQUESTS_MAX: Final = 64  # stock requests that wait until their sender has answered our ping

# --- Watch --------------------------------------------------------------------------------------------------------
LEASE_S: Final = 120.0
WATCH_HOLDERS: Final = 3  # leases for a key; each push is a hint, so a few are enough
WATCH_KEYS_PER_DATAGRAM_MAX: Final = 40
WATCH_KEYS_PER_LEASE_MAX: Final = 20_000
LEASES_MAX: Final = 4096
WATCHERS_PER_KEY_MAX: Final = 1024
SEEN_PUSHES_MAX: Final = 8192  # ids remembered to drop duplicates

# --- Holdings -----------------------------------------------------------------------------------------------------
RECORDS_HELD_MAX: Final = 200_000
RECORDS_PER_ORDER_KEY_MAX: Final = 64  # an order, its statuses, and the accepts that compete for it
RECORDS_PER_INDEX_KEY_MAX: Final = 8192
ORDERS_PER_MAKER_AND_INDEX_KEY_MAX: Final = 1024  # one key must not crowd out the others
STATUSES_PER_ORDER_MAX: Final = 4  # from different keys while the order itself is unknown, or equivocations

# --- Faces --------------------------------------------------------------------------------------------------------
CONTROL_BODY_BYTES_MAX: Final = 4 << 20
CONTROL_STREAMS_MAX: Final = 64
EVENTS_BUFFERED_MAX: Final = 1024  # per stream; a slower reader is told that it lost some
LISTING_ORDERS_MAX: Final = 100_000
ID_PREFIX_DIGITS_MIN: Final = 6
STOP_S_MAX: Final = 3.0
LOG_BYTES_MAX: Final = 4 << 20
