package petrel

// How petrel keeps what it has promised
//
// A [Store] holds bytes; what they mean is settled here. Without one nothing of
// this exists but a nil check.
//
// Keys begin with the partition of the client identifier they belong to (two
// bytes, zero today: there is one partition), so that a partition can one day
// live elsewhere, and a kind. Numbers are big-endian, so that keys sort by them.
//
//	v                     the version of this scheme
//	s SESSION             who it belongs to, when it ends
//	w SESSION             the will: of the connection, or delayed
//	u SESSION FILTER      a subscription, and how far it has got its retained messages
//	i SESSION ID          a QoS 2 message received and not released
//	q SESSION PLACE       a message for the session: waiting, or sent when it came
//	f SESSION PLACE       what became of a q record since: sent, or to be completed
//	m NUMBER              a message that several q records refer to
//	r TOPIC               a retained message
//	x KEY                 a record that could not be read, set aside
//
// SESSION is a number that is never given twice while anything is left of it,
// so that a new session cannot be mistaken for an old one with its identifier.
// PLACE counts up within a session: the order of the records is the order of
// delivery. A value ends with a checksum over key and value, and times in it are
// those of the calendar. A message for one session is in its q record, so that it
// costs one record in and one out; a message for several is stored once, as m,
// and goes when the last q record does. Who refers to it is counted in memory and
// counted anew at the start. Not all that is in the store is in memory: see stored.go.
//
// Changes are appended to the open commit under the lock that guards what has
// changed: the order of the journal is the order of the events of each session.
// One goroutine takes the open commit, hands it to the store, and opens the next
// meanwhile: the slower the disk, the more packets share one sync. After a very large
// commit it waits as long again, 20 ms at most, so that more share the next. What must not
// be torn apart (the identifier of a QoS 2 message and its deliveries, a will and
// its removal, a message that moves to another member of a group) is bracketed:
// no commit is taken while a bracket is open. No hook runs in one.
//
// The gate: bytes for a client that must not leave before a commit is safe stand
// in its outbound buffer behind that commit, and all that is pushed later stands
// behind them. So answers leave in the order of their packets, and a reader never
// waits for the disk. What stands behind a commit:
//
//   - every answer (CONNACK, SUBACK, UNSUBACK, PUBACK, PUBREC, PUBREL, PUBCOMP):
//     behind all that its own read has journaled so far;
//   - a QoS 2 PUBLISH to a client: its identifier must be known after a crash, or
//     the message could be sent under a second one.
//
// A QoS 1 PUBLISH waits for nothing: after a crash it is sent again, as it may be.
//
// When a commit fails, who waits for it is disconnected, and the same changes are
// tried again: memory is ahead of the store but never apart from it. Until that
// has succeeded, what would have to be kept is refused.

import (
	"bytes"
	"context"
	"iter"
	"slices"
	"time"
)

// Store keeps the state of a broker beyond the end of the process: an ordered
// map of bytes with atomic batches. It is a [Hook]; there is at most one. The
// broker owns the meaning of keys and values; a backend only keeps them, and
// passes package storetest. Keys are at most 2,048 bytes, values as large as the
// largest packet.
//
// The broker loads before it serves, and parts of long queues at any time after that,
// from many goroutines. It commits from one goroutine at a time, also while it loads.
// A Load sees all batches whose Commit returned before it began. The broker closes the
// store when it has ended. A [New] that fails does not close it.
type Store interface {
	// Load calls each for every record with from <= key < to, in ascending order
	// of bytes. The slices are valid during the call only. An error of each ends
	// the walk and is returned as it is: so the broker reads the beginning of a range
	// that has millions of records, and the walk should cost no more than that.
	Load(ctx context.Context, from, to []byte, each func(key, value []byte) error) error

	// Commit makes all changes of b, or none of them if it returns an error.
	// Once it has returned nil, they survive the end of the process, and the
	// loss of power if b.Sync() is true; so do all batches before it. It keeps
	// nothing of b.
	Commit(ctx context.Context, b *Batch) error

	// Close ends the store. All that was committed is synced before.
	Close() error
}

// Batch is a set of changes to be made together. The zero value is empty.
type Batch struct {
	buf     []byte
	changes []span
	settled bool // changes are sorted, one for each key
	sync    bool
}

// spanSize is how many bytes a span takes.
const spanSize = 32

// span is where a change stands in Batch.buf.
type span struct {
	key, value, end int
	delete          bool
	fresh           bool // a put of a key that the store does not have
}

// Change is one change of a [Batch]: a record that is put, or one that is
// deleted whether or not there is one.
type Change struct {
	Key    []byte
	Value  []byte // nil with Delete
	Delete bool
}

// Put adds the change that gives key the value. Both are copied.
func (b *Batch) Put(key, value []byte) { b.add(key, value, span{}) }

// putFresh is Put for a key that the store does not have. If it is deleted in the
// same batch, nothing is left to be done.
func (b *Batch) putFresh(key, value []byte) { b.add(key, value, span{fresh: true}) }

// Delete adds the change that removes the record of key. It is copied.
func (b *Batch) Delete(key []byte) { b.add(key, nil, span{delete: true}) }

func (b *Batch) add(key, value []byte, s span) {
	s.key, s.value = len(b.buf), len(b.buf)+len(key)
	b.buf = append(append(b.buf, key...), value...)
	s.end = len(b.buf)
	b.changes = append(b.changes, s)
	b.settled = false
}

// Len returns how many changes were added.
func (b *Batch) Len() int { return len(b.changes) }

// Size returns the bytes of all keys and values that were added.
func (b *Batch) Size() int { return len(b.buf) }

// memory is what the batch takes of it, in bytes: changes can be smaller than what is
// noted of each.
func (b *Batch) memory() int { return len(b.buf) + len(b.changes)*spanSize }

// reserved is what it keeps of it for more changes, in bytes.
func (b *Batch) reserved() int { return cap(b.buf) + cap(b.changes)*spanSize }

// SetSync says whether the batch has to survive the loss of power.
func (b *Batch) SetSync(sync bool) { b.sync = sync }

// Sync reports whether the batch, and all before it, must survive the loss of
// power when [Store.Commit] returns. It can be asked of an empty batch.
func (b *Batch) Sync() bool { return b.sync }

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() { b.buf, b.changes, b.sync = b.buf[:0], b.changes[:0], false }

// Changes yields the changes in ascending order of keys, one for each key: the
// one that was added last. The slices belong to the batch.
func (b *Batch) Changes() iter.Seq[Change] {
	b.settle()
	return func(yield func(Change) bool) {
		for _, s := range b.changes {
			c := Change{Key: b.buf[s.key:s.value:s.value], Delete: s.delete}
			if !s.delete {
				c.Value = b.buf[s.value:s.end:s.end]
			}
			if !yield(c) {
				return
			}
		}
	}
}

// settle sorts the changes and drops those that later ones overrule.
func (b *Batch) settle() {
	if b.settled {
		return
	}
	key := func(s span) []byte { return b.buf[s.key:s.value] }
	slices.SortStableFunc(b.changes, func(x, y span) int { return bytes.Compare(key(x), key(y)) })
	kept := b.changes[:0]
	for first, i := 0, 0; i < len(b.changes); i++ {
		last := b.changes[i]
		if i+1 < len(b.changes) && bytes.Equal(key(last), key(b.changes[i+1])) {
			continue
		}
		// Most messages are acknowledged before they are committed.
		if gone := b.changes[first].fresh && last.delete; !gone {
			last.fresh = b.changes[first].fresh
			kept = append(kept, last)
		}
		first = i + 1
	}
	b.changes, b.settled = kept, true
}

// SyncPolicy says when what was committed is synced, so that it survives the
// loss of power. The end of the process alone loses nothing under any policy.
type SyncPolicy time.Duration

const (
	// SyncEach syncs each commit: what was acknowledged is on the disk.
	SyncEach SyncPolicy = 0
	// SyncNever leaves it to the operating system when to write.
	SyncNever SyncPolicy = -1
)

// SyncInterval syncs when d has passed since the last sync: the loss of power
// can undo what was acknowledged within the last d. d is at least a millisecond.
func SyncInterval(d time.Duration) SyncPolicy { return SyncPolicy(max(d, time.Millisecond)) }
