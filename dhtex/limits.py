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
OPENING_BYTES: Final = 640  # of a first question: pays for 16 IPv4 contacts and a ping back, or for most orders
CONTACTS_PER_REPLY_MAX: Final = 20  # k; a longer list is cut, never followed

# --- Records ------------------------------------------------------------------------------------------------------
ORDER_LIFE_S_MAX: Final = 7 * 86_400  # longer offers go stale; the maker can publish again
ORDER_LIFE_S_DEFAULT: Final = 86_400  # a day, as people quote prices
CLOCK_SKEW_S_MAX: Final = 120  # a record may come from a clock that is this far ahead
TOMBSTONE_S: Final = 86_400  # a Status outlives its order by this, so that a late copy cannot revive it
NOTE_CHARS_MAX: Final = 140  # a remark, not a contract
NOTE_BYTES_MAX: Final = 280  # in UTF-8
PAYMENTS_MAX: Final = 8  # methods of one order, searched one by one
PAYMENT_CHARS_MAX: Final = 24  # a short token, such as SEPA or wise
REFERENCE_CHARS_MAX: Final = 36  # a UUID
CANCEL_AFTER_S_MIN: Final = 5  # a switch that goes off sooner leaves no time to renew it
GROUP_CHARS_MAX: Final = 64  # the name of a group is the maker's own and never leaves the node
GROUP_BYTES_MAX: Final = 4 * GROUP_CHARS_MAX  # in UTF-8, which needs no more
TAG_CHARS_MIN: Final = 16  # whoever can guess the tag can tell which orders bear it
TAG_CHARS_MAX: Final = 128  # more is a mistake
NETWORK_CHARS_MAX: Final = 24  # stands in every record
TICKER_CHARS_MAX: Final = 10  # the longest in use have about this
MESSAGE_BYTES_MAX: Final = 280  # of clear text; sealed it is 48 longer
SEALED_BYTES_MAX: Final = MESSAGE_BYTES_MAX + 48  # libsodium's sealed box adds 48
MONEY_DIGITS_MAX: Final = 30  # in all, before and behind the point
MONEY_INTEGER_DIGITS_MAX: Final = 15  # a price of 10^15 is a mistake in every currency
ACCEPT_DEADLINE_S_MAX: Final = 86_400  # for orders that a person or an absent maker decides
ACCEPT_DEADLINE_S_DEFAULT: Final = 60  # for orders that a running node decides
ACCEPT_GRACE_S: Final = 15  # after the deadline a decision may still be on its way
RECEIPT_SEQ_MAX: Final = 16  # a side may change its mind so often about a trade; each is a push to the other
TRADES_FOLLOWED_MAX: Final = 1024  # newest trades whose receipts are waited for: each is a watched key
ACCEPT_TRIES_MAX: Final = 5  # orders that one wish for the best goes through; each costs a stamp and a refusal
PLAN_ORDERS_MAX: Final = 64  # orders that one wish for an amount may take: each costs a stamp and a round trip
ACCEPTS_PER_ORDER_MAX: Final = 1024  # each is a row on the maker's disk; beyond, only a fill is answered
PENDING_PER_ORDER_MAX: Final = 64  # accepts that wait for a person: as many as an order's key holds
BEAT_INTERVAL_S: Final = 30  # three in the time after which a maker counts as silent
BEAT_AGE_S_MAX: Final = 90  # three beats missed: the maker is silent
SIGNATURES_REMEMBERED_MAX: Final = 32_768  # found good; about 8 MB

# --- Stamp --------------------------------------------------------------------------------------------------------
STAMP_BITS_PUBLIC: Final = 16  # four puzzles of 2^16 hashes of 4 KiB: about a second of one core
STAMP_BITS_MAX: Final = 24  # asked bits above this are a mistake or an attack
MAKER_ORDERS_FREE: Final = 512  # of one maker at one holder, at its order keys and in trees; beyond, stamps cost more
STAMP_PUZZLES: Final = 4  # several small puzzles vary less than a big one
STAMP_MESSAGE_BYTES: Final = 4096  # long messages leave native code little to gain over hashlib
STAMP_ACCEPT_BITS_LESS: Final = 4  # an accept costs a sixteenth: it names one order and lives for a minute
STAMP_BITS_MORE_MAX: Final = 4  # above the network's, 16 s of a core: holders ask no more, or they are liars
STAMP_HOURS_SKEW: Final = 2  # a stamp's hour may differ from its record's by this

# --- Overlay ------------------------------------------------------------------------------------------------------
BUCKET_SIZE: Final = 20  # k of the paper
REPLACEMENTS_PER_BUCKET: Final = 8  # enough to refill a bucket that lost a machine full of peers
HOLDERS: Final = 8  # r: how many nodes hold a key
LOOKUP_PARALLEL: Final = 4  # alpha
FETCH_PARALLEL: Final = 2  # where any holder will do: most are asked in vain, but one dead must not hold it up
FETCH_ALONE_S: Final = 0.005  # until then one is asked alone: who is near has answered, and often has it
LOOKUP_SURE: Final = 3  # answers of the closest that show who the holders are: each knows its neighbours
LOOKUP_CONTACTS: Final = 12  # in a reply of our verbs: HOLDERS and half as many again, as some may be dead
LOOKUP_CONTACTS_ALONE: Final = 16  # without records beside: of 12, fewer than HOLDERS may live where many have died
LOOKUP_CANDIDATES_MAX: Final = 64  # a liar can invent contacts without end
LOOKUP_REQUESTS_MAX: Final = 48  # about three times what a put needs
LOOKUP_REQUESTS_PER_IP_MAX: Final = 6  # public ones: two may be found at one, and it may be a victim that liars name
LOOKUP_S_MAX: Final = 10.0  # a person waits; whatever was found by then is the answer
READ_S_MAX: Final = 15.0  # for the pages behind a search: 8,192 orders over a slow line, or a liar who stalls
READ_GRACE_S: Final = 1.0  # for a minority of holders, once what most of them vouch for is there
REQUEST_TRIES: Final = 3  # with 10 % loss each way, one in 150 requests fails for good
REQUEST_TIMEOUT_S_FIRST: Final = 0.5  # before a peer's round trip is known
REQUEST_TIMEOUT_S_MIN: Final = 0.05  # a busy loop at the other end is not a lost datagram
REQUEST_TIMEOUT_S_BACKED_OFF: Final = 1.5  # of somebody who was silent: lines by satellite take 0.7 s
REQUEST_TIMEOUT_S_MAX: Final = 3.0  # a peer that is slower is no help to a lookup
REQUESTS_OUTSTANDING_MAX: Final = 4096  # memory of the request engine
FAILURES_BEFORE_EVICTION: Final = 3  # in a row: one lost reply, or a moment in which many are lost, says nothing
CONTESTED_PAUSE_S: Final = 2.0  # between pings of a peer whose id another address claims: an outage may be short
PEERS_PER_SUBNET_IN_BUCKET: Final = 2  # one /24 or /64 must not own a bucket
PEERS_PER_SUBNET_IN_TABLE: Final = 10  # nor the table
STOCK_PEERS_PER_BUCKET: Final = 4  # they route for us, but verify nothing
TOKEN_LIFE_S: Final = 600.0  # two secrets rotate, as in BEP 5
REFRESH_INTERVAL_S: Final = 600.0  # looks up a random id in buckets that nobody used
PING_IDLE_S: Final = 120.0  # a silent peer is asked whether it is still there
PING_EACH_S: Final = 1.0  # but one a second is enough for a table of some hundred peers that are all silent
PING_IDLE_S_MAX: Final = 300.0  # half of what a vote and a token live
BOOTSTRAP_RETRY_S_MIN: Final = 1.0  # the first node of a network may start a moment later
BOOTSTRAP_RETRY_S_MAX: Final = 60.0  # back-off of a node without peers ends here; cheap enough to go on for ever
BOOTSTRAP_AGAIN_S: Final = 240.0  # and of one with peers: its network may be one half of another
SIZE_SAMPLES_MAX: Final = 32  # of the network's size; what they tell together errs by about 12 %, the first 8 by 20 %
SIZE_RESAMPLE_S: Final = 60.0  # a crowd around our own id makes us measure anew, but no more often than this
REPLICATE_INTERVAL_S: Final = 1800.0  # a holder hands its records on this often, jittered
REPUBLISH_INTERVAL_S: Final = 900.0  # a maker makes sure of its holders this often, jittered
STRANGER_DATAGRAMS_PER_S: Final = 2000  # all unverified addresses together, and as many pings
STRANGER_NETWORK_DATAGRAMS_PER_S: Final = 1000  # one /24 or /64: 64 honest nodes that start there send 15 each
STRANGER_ADDRESS_DATAGRAMS_PER_S: Final = 100  # before it is verified an honest node sends a few
STOCK_FINDS_PER_S: Final = 40  # answered to one verified address: without a token in them their source may be forged
PEER_DATAGRAMS_PER_S: Final = 4000  # one verified address; 64 honest nodes may share one
ADDRESSES_TRACKED_MAX: Final = 8192  # rate limits remember so many; the oldest goes first
PARKED_REQUESTS_MAX: Final = 64  # stock requests that wait until their sender has answered our ping
RESUMED_S: Final = 60.0  # clocks that went on by so much more than a tick: the machine slept, or was set right
VIEW_S: Final = 60.0  # between two votes of one peer on our address and clock; a quiet one is pinged less often
VOTE_S: Final = 600.0  # after which a view of us counts no more; all in the table are asked each 300 s or sooner
DOUBT_S: Final = 10.0  # for the answers of all peers, once one says that we are elsewhere
DOUBT_PAUSE_S: Final = 120.0  # between two such rounds of pings: what one liar can cause
VOTERS_MAX: Final = 64  # networks whose latest view of our address and clock is kept
MOVED_PAUSE_S: Final = 600.0  # between two meetings with the network because our address changed: they ask everybody
PUBLIC_VOTERS_MIN: Final = 3  # networks that must agree on our address before our id follows from it
VOTERS_MIN: Final = 2  # before their median clock says something about ours
SKEW_S_WARN: Final = 30.0  # a maker whose clock is 75 s ahead lets accepts of a minute lapse unheard
PROBE_S: Final = 20.0  # between two requests to have us reached, while it is not known; doubles when one tells nothing
PROBE_AGAIN_S: Final = 640.0  # the longest such pause, and that of a client
PROBE_WAIT_S: Final = 5.0  # for a knock: three hops, with one repetition of each
PROBERS_SILENT: Final = 8  # networks in a row that had us probed in vain make a client; 1 row in 110 if a third lie
PROBE_SILENT_S: Final = 3600.0  # within this
REACHED_S: Final = 3600.0  # after which a stranger's request proves nothing any more
UNASKED_S: Final = 1.0  # between two such requests that are looked at: it takes a look at all peers
PROBES_PER_S: Final = 8  # passed on, and knocks sent: each is a datagram to somebody whom another one named
FAMILY_FAILURES: Final = 8  # in a row before IPv4 or IPv6 counts as unusable here: no few dead peers make it so
FAMILY_RETRY_S: Final = 60.0  # between two trials of such a family: networks change
HINTS_PER_S: Final = 8  # down hints, told and heard: hearsay must stay cheap
HINT_PAUSE_S: Final = 10.0  # between two pings of a peer because of hints
HINTS_REMEMBERED_MAX: Final = 1024  # that were told a moment ago; beyond, no more are told
LOST_PEERS_MAX: Final = 128  # peers that were lost, or of an earlier life, and may come back: the newest
LOST_PEER_S: Final = 3600.0  # each is asked by itself for this long, at first often: most cuts are short
SILENT_HOLDER_S: Final = 600.0  # for so long one of them counts as a holder that may know better, and be back soon
FORMER_PEER_S: Final = 240.0  # then they are asked in turn, one datagram each time, for ever: some cuts are long
PARKED_S: Final = 1.0  # a pong that takes longer comes too late for the one who asked
PAGES_IN_FLIGHT_MAX: Final = 32  # of one reading, over all its holders: 38 kB on the way
HOLDERS_REMEMBERED_MAX: Final = 4096  # keys whose holders we looked up a moment ago
REFUSAL_CODE_CHARS_MAX: Final = 24  # what a holder may call its reason
HOLDERS_REMEMBERED_S: Final = 20.0  # puts and watches that follow each other need one search
ID_PAGES_MAX: Final = 96  # of a fellow holder's list; a page has about 140 ids, or a liar gives them one by one
DIGESTS_REMEMBERED_MAX: Final = 16_384  # told by fellow holders who compared: about 4 MB; who forgets asks again
REPLICATE_RECORDS_PER_S: Final = 50  # handing on must not crowd out what users wait for

# --- Watch --------------------------------------------------------------------------------------------------------
CANARY_S: Final = 180.0  # between two readings of an own record while all is well
CANARY_RETRY_S: Final = 10.0  # and while it does not come back
LEASE_S: Final = 120.0  # a holder forgets a dead watcher after this
WATCH_HOLDERS: Final = 3  # leases for a key; each push is a hint, so a few are enough
WATCH_KEYS_PER_DATAGRAM_MAX: Final = 40  # 20 bytes each beside the envelope
WATCH_KEYS_PER_LEASE_MAX: Final = 20_000  # a maker with thousands of orders has one lease
LEASES_MAX: Final = 4096  # watchers that one holder serves
WATCHERS_PER_KEY_MAX: Final = 1024  # pushes that one record may cause at one holder
SEEN_PUSHES_MAX: Final = 8192  # ids remembered to drop duplicates
WATCHED_KEYS_OF_OTHERS_MAX: Final = 200_000  # in all leases together; about 40 MB
PUSHES_IN_FLIGHT_PER_LEASE_MAX: Final = 64  # a watcher that is slower loses some and is told so
WATCH_LOOKUPS_PARALLEL: Final = 8  # holders of a thousand keys are looked up gently

# --- Holdings -----------------------------------------------------------------------------------------------------
RECORDS_HELD_MAX: Final = 200_000  # about 170 MB of memory at the usual size, 300 MB at the largest
RECORDS_PER_SOURCE_MAX: Final = 50_000  # brought by one address: 64 honest nodes with 780 each pass
RECORDS_PER_ORDER_KEY_MAX: Final = 64  # an order, its statuses, and the accepts that compete for it
RECORDS_PER_INDEX_KEY_MAX: Final = 8192  # one pair and side, until the price tree splits it
ORDERS_PER_MAKER_AND_INDEX_KEY_MAX: Final = 1024  # one key must not crowd out the others
STATUSES_PER_ORDER_MAX: Final = 4  # from different keys while the order itself is unknown, or equivocations
ORPHANS_HELD_MAX: Final = 16_384  # unstamped records whose order is unknown: they cost their sender nothing
ORPHANS_PER_SOURCE_MAX: Final = 1024  # of these from one address
EXPIRED_PER_TURN_MAX: Final = 64  # dropped at once: less than a millisecond, however many end in one second
WRITTEN_PER_TURN_MAX: Final = 128  # rows of held records in one transaction: about a millisecond

# --- Price tree ---------------------------------------------------------------------------------------------------
# Measured with nine nodes in one process: with 256 a book of 1,000 orders is eight nodes, and a cold listing of it took
# about twice the CPU and three times the datagrams that it takes with 1,024, when it is one node, as without a tree.
# Whoever wants the best twenty reads the first pages of a node, however large it is.
TREE_NODE_ORDERS_MAX: Final = 1024  # B: a node that has more delegates
TREE_NODE_ORDERS_MIN: Final = 256  # a node whose branches hold fewer takes them back: a quarter, so that it rests
TREE_BRANCHES_MAX: Final = 64  # of one node; their names fit beside a record in an answer
TREE_DEPTH_MAX: Final = 32  # delegations that a publisher follows; a book of a million orders has three levels
TREE_WITNESSES: Final = 4  # orders that a node with branches keeps beside: what has no record, nobody hands on
TREE_PATH_FRESH_S: Final = 60.0  # how long a publisher trusts what it learnt of a tree
TREE_PATHS_MAX: Final = 4096  # branches that a publisher remembers
TREE_PLACES_MAX: Final = 8  # nodes of one tree at which one holder keeps an order: one stamp, few places
TREE_PARALLEL: Final = 8  # nodes of a tree that one reading has under way
TREE_OPENS_FREE: Final = 64  # nodes without an order that a reading opens: a liar can invent any number
TREE_OPENS_PER_FIND: Final = 4  # and so many more for each that has one
TREE_STRIKES_MAX: Final = 2  # branches that only one holder names and nobody knows; then the rest is not opened
TREE_READ_S_MAX: Final = 60.0  # for all nodes of a tree; a hundred thousand orders
TREE_TEND_S: Final = 300.0  # a holder looks after its node of a tree this often, jittered
TREE_TEND_FIRST_S: Final = 30.0  # and within this when it is new, after this when it has new branches: makers go first
TREE_TEND_TURN_S: Final = 15.0  # the next closest holder begins about so much later, and finds part of the work done
TREE_MOVES_PER_S: Final = 32  # orders that one holder moves to where they belong, each to eight at most
WATCH_WALK_S: Final = 30.0  # a watcher looks this often whether a tree has new nodes
ASK_AGAIN_S: Final = 600.0  # why an order that a follower shows is listed by nobody, after no end of it was found
CATCH_UP_PAUSE_S: Final = 1.0  # between two readings of a watched pair because of gaps: a bad line has many
REPAIRS_PER_READ_MAX: Final = 32  # records that a reader hands to holders which lack them

# --- Faces --------------------------------------------------------------------------------------------------------
CONTROL_BODY_BYTES_MAX: Final = 4 << 20  # a file of a few thousand orders
CONTROL_STREAMS_MAX: Final = 64  # terminals that watch one node
CONTROL_CONNECTIONS_MAX: Final = 256  # each costs some tens of kilobytes
CONTROL_HEARTBEAT_S: Final = 15.0  # a comment in each quiet stream, so that both ends notice a dead one
CONTROL_CLOSE_S_MAX: Final = 1  # for answers under way when the node stops
MINT_WORKERS_MAX: Final = 2  # processes; the node itself needs a core too
MINT_IDLE_S: Final = 30.0  # then the worker processes end and give their memory back
EVENTS_BUFFERED_MAX: Final = 1024  # per stream; a slower reader is told that it lost some
PAIRS_PARALLEL: Final = 16  # read at a time; both trees of each, with pages in flight, fill half a socket's buffer
LISTING_ORDERS_MAX: Final = 100_000  # an answer stays within some tens of megabytes
TRADES_LISTED_MAX: Final = 1000  # in one answer: each is two records that the event loop decodes, 60 ms in all
FILLS_READ_MAX: Final = 1000  # of one pair at a time: each is compared with its order, which is read
IMPORT_RECORDS_MAX: Final = 256  # in one request; each is put at two keys
ID_PREFIX_DIGITS_MIN: Final = 6  # shorter ones are mistyped too easily
STOP_S_MAX: Final = 3.0  # then the node stops the hard way; the journal survives that
LOG_BYTES_MAX: Final = 4 << 20  # one old file of this size is kept beside the current one
