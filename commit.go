package petrel

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/petrelmq/petrel/packets"
)

const (
	// journalRoom is how many bytes of memory the changes may have that wait for the
	// disk. With more, the broker reads no further until the next commit.
	journalRoom = 8 << 20
	// keepBatch bounds the memory that is kept for changes while there are none, in bytes.
	keepBatch = 1 << 20
	// gatherFrom is how many changes a commit has to have for the next one to be put
	// off, gatherMost for how long at most.
	gatherFrom = 4000
	gatherMost = 20 * time.Millisecond
	// commitRetry is the pause after the first commit that failed; it grows.
	commitRetry = 50 * time.Millisecond
)

// commit is a set of changes that become safe together. Changes are added under
// journal.mu while it is the open one.
type commit struct {
	journal *journal
	batch   Batch
	safe    atomic.Bool  // as the policy promises; set under journal.mu
	waiting []*Client    // whose packets stand behind it; guarded by journal.mu
	told    []chan error // get what became of it; guarded by journal.mu
}

// behind makes the client wait for the commit, unless that is safe.
func (c *commit) behind(cl *Client) bool {
	c.journal.mu.Lock()
	defer c.journal.mu.Unlock()
	if c.safe.Load() {
		return false
	}
	c.waiting = append(c.waiting, cl)
	return true
}

// journal takes the changes of all connections and commits them together.
type journal struct {
	broker *Broker
	store  Store
	policy SyncPolicy

	// bracket is held for reading from the first to the last of changes that must
	// be in one commit. It is taken before every other lock, and no hook runs below it.
	bracket sync.RWMutex

	mu         sync.Mutex // the innermost lock
	open       *commit
	taken      *commit       // the last that was taken, safe or not
	spare      Batch         // memory of a commit that is safe
	key, value []byte        // working memory
	full       chan struct{} // closed when the open commit is taken; nil unless somebody waits
	failure    error         // of the last commit; nil if it succeeded
	ending     bool          // the broker ends
	numbers    uint64        // of the last m record
	holders    holders       // of m records

	failing atomic.Bool // failure is set
	work    chan struct{}
	stop    chan struct{}
	done    chan struct{} // closed when the last commit has ended
	release chan *commit
	synced  time.Time
	pause   time.Duration // before the next commit
	dirty   bool          // something was committed since the last sync

	commits, changes atomic.Uint64 // that have succeeded
}

func newJournal(b *Broker, s Store) *journal {
	j := &journal{
		broker: b, store: s, policy: b.opts.Sync,
		work: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}), release: make(chan *commit, 16),
	}
	j.open = &commit{journal: j}
	return j
}

// start begins to commit.
func (j *journal) start() {
	go j.releases()
	go j.run()
}

// close commits what there is, and closes the store.
func (j *journal) close() error {
	if j == nil {
		return nil
	}
	close(j.stop)
	<-j.done
	return j.store.Close()
}

// noteLocked tells the committer of work, and bt what it has to wait for. bt may be nil.
func (j *journal) noteLocked(bt *batch) {
	if bt != nil {
		bt.journaled = j.open
	}
	select {
	case j.work <- struct{}{}:
	default:
	}
}

// putLocked adds the record in j.key and j.value to the open commit.
func (j *journal) putLocked(bt *batch) {
	j.value = seal(j.key, j.value)
	j.open.batch.Put(j.key, j.value)
	j.noteLocked(bt)
}

// putFreshLocked is putLocked for a key that is not in the store before this commit.
func (j *journal) putFreshLocked(bt *batch) {
	j.value = seal(j.key, j.value)
	j.open.batch.putFresh(j.key, j.value)
	j.noteLocked(bt)
}

// deleteLocked adds the removal of the record in j.key.
func (j *journal) deleteLocked(bt *batch) {
	j.open.batch.Delete(j.key)
	j.noteLocked(bt)
}

// held returns a channel that is closed when the journal has room again, nil if
// it has, or if there is no journal.
func (j *journal) held() <-chan struct{} {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.open.batch.memory() < journalRoom || j.failure != nil || j.ending {
		return nil // or the packets are refused, which nobody need wait for
	}
	if j.full == nil {
		j.full = make(chan struct{})
	}
	return j.full
}

// refusal is why nothing can be kept now, nil if it can, or if there is no journal.
func (j *journal) refusal() error {
	if j == nil || !j.failing.Load() {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failure == nil {
		return nil
	}
	return j.failure
}

// errNotKept is in the tree of every refusal that is due to the store.
var errNotKept = errors.New("petrel: the store failed")

// notKept is the error for clients whose packets cannot be made safe.
func notKept(err error) error {
	code := packets.UnspecifiedError
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) {
		code = packets.QuotaExceeded
	}
	// Without err itself in the tree, which can look like an error of the network.
	return &packets.Error{Code: code, Err: fmt.Errorf("%w: %v", errNotKept, err)}
}

// wait waits until a commit is safe. Nil is no commit. While the store fails it does not
// wait: nobody knows for how long.
func (j *journal) wait(ctx context.Context, c *commit) error {
	if c == nil || c.safe.Load() {
		return nil
	}
	told := make(chan error, 1)
	j.mu.Lock()
	if safe, failure := c.safe.Load(), j.failure; safe || failure != nil {
		j.mu.Unlock()
		if safe {
			return nil
		}
		return failure
	}
	c.told = append(c.told, told)
	j.mu.Unlock()
	select {
	case err := <-told:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// waitForAll waits until all that was journaled before is safe.
func (j *journal) waitForAll(ctx context.Context) error {
	j.mu.Lock()
	c := j.open
	if c.batch.Len() == 0 {
		c = j.taken
	}
	j.mu.Unlock()
	return j.wait(ctx, c)
}

// run is the committer. What it hands to the store next has gathered while
// the store was at work.
func (j *journal) run() {
	defer close(j.done)
	defer close(j.release)
	for stopping := false; !stopping; {
		select {
		case <-j.work:
			stopping = j.gather()
		case <-j.due():
		case <-j.stop:
			stopping = true
		}
		if c := j.take(stopping); c != nil {
			began, changes := time.Now(), c.batch.Len()
			j.keep(c, stopping)
			j.pause = 0
			if changes >= gatherFrom {
				j.pause = min(time.Since(began), gatherMost)
			}
		}
	}
}

// gather puts a commit off for as long as the last one took, if that was a large
// one. Then there is more work than time: what comes meanwhile shares the commit, and
// the messages that are acknowledged by those who got them need not be written at
// all. It reports whether the broker ends.
func (j *journal) gather() (stopping bool) {
	if j.pause == 0 {
		return false
	}
	select {
	case <-time.After(j.pause):
		return false
	case <-j.stop:
		return true
	}
}

// due returns a channel that delivers when a sync is due although nothing happens.
func (j *journal) due() <-chan time.Time {
	if j.policy <= 0 || !j.dirty {
		return nil
	}
	return time.After(time.Until(j.synced.Add(time.Duration(j.policy))))
}

// take closes the open commit and returns it, nil if there is nothing to do.
func (j *journal) take(stopping bool) *commit {
	j.bracket.Lock()
	defer j.bracket.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	c := j.open
	sync := j.policy == SyncEach || j.policy > 0 && (stopping || time.Since(j.synced) >= time.Duration(j.policy))
	if c.batch.Len() == 0 && !(sync && j.dirty) {
		return nil
	}
	c.batch.SetSync(sync)
	j.taken = c
	j.open = &commit{journal: j, batch: j.spare}
	j.spare = Batch{}
	j.goOnLocked()
	return c
}

// goOnLocked lets those read again that were held.
func (j *journal) goOnLocked() {
	if j.full != nil {
		close(j.full)
		j.full = nil
	}
}

// end holds nobody any more.
func (j *journal) end() {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ending = true
	j.goOnLocked()
}

// keep commits c, again and again if it has to. Who waits for it learns of the
// first failure.
func (j *journal) keep(c *commit, stopping bool) {
	pause := commitRetry
	for {
		err := j.commit(c)
		if err == nil {
			j.succeeded(c)
			return
		}
		j.failed(c, err)
		if stopping {
			j.broker.log.Error("petrel: the last changes are not in the store", "changes", c.batch.Len(), "error", err)
			return
		}
		j.broker.log.Error("petrel: the store failed, trying again", "changes", c.batch.Len(), "pause", pause, "error", err)
		select {
		case <-time.After(pause):
		case <-j.stop:
			stopping = true
		}
		pause = min(2*pause, time.Second)
	}
}

// commit hands c to the store. A store that panics has failed.
func (j *journal) commit(c *commit) (err error) {
	defer func() {
		if r := recover(); r != nil {
			j.broker.log.panicked("the store", r)
			err = errHookPanic
		}
	}()
	return j.store.Commit(context.Background(), &c.batch)
}

// succeeded makes c safe and lets what stands behind it go.
func (j *journal) succeeded(c *commit) {
	j.commits.Add(1)
	j.changes.Add(uint64(c.batch.Len()))
	j.dirty = !c.batch.Sync()
	if c.batch.Sync() {
		j.synced = time.Now()
	}
	j.mu.Lock()
	c.safe.Store(true)
	j.failure = nil
	j.failing.Store(false)
	told := c.told
	c.told = nil
	j.spareLocked(c)
	j.mu.Unlock()
	for _, t := range told {
		t <- nil
	}
	j.release <- c
}

// spareLocked takes the memory of a commit that is safe. While there is more to do it is
// used again, whatever its size: to grow anew each time would leave more garbage than
// that. A large one goes when there is nothing to do.
func (j *journal) spareLocked(c *commit) {
	idle := j.open.batch.Len() == 0
	if idle && j.open.batch.reserved() > keepBatch {
		j.open.batch = Batch{}
	}
	if !idle || c.batch.reserved() <= keepBatch {
		j.spare = c.batch
		j.spare.Reset()
	}
	c.batch = Batch{}
}

// failed disconnects who waits for c: they must not be told what is not so.
func (j *journal) failed(c *commit, err error) {
	err = notKept(err)
	j.mu.Lock()
	j.failure = err
	j.failing.Store(true)
	j.goOnLocked()
	waiting, told := c.waiting, append(c.told, j.open.told...)
	c.waiting, c.told, j.open.told = nil, nil, nil
	j.mu.Unlock()
	for _, t := range told {
		t <- err
	}
	for _, cl := range waiting {
		cl.stop(err)
	}
}

// releases flushes what stood behind commits that are safe, while the next
// commit is on its way.
func (j *journal) releases() {
	for c := range j.release {
		j.mu.Lock()
		waiting := c.waiting
		c.waiting = nil
		j.mu.Unlock()
		serving := j.broker.enter()
		for _, cl := range waiting {
			if cl.out.open() && serving { // otherwise who closes it writes what is left
				cl.out.flush()
			}
		}
		if serving {
			j.broker.wg.Done()
		}
	}
}
