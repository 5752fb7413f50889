package engine

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
)

// HasLoops reports whether this system has loops.
const HasLoops = true

// The loops, one for each processor, wait for all sockets together. What holds:
//
//   - A socket belongs to one loop for its life. Whoever has its turn may read
//     from it and call its Handler: the goroutine of the loop, or another one
//     aside while the Handler may wait, or is held.
//   - A loop does not wait for a turn. A socket that is readable while somebody
//     else has its turn is muted: epoll is silent about it until the turn ends.
//   - One goroutine at a time runs a loop. If one socket keeps it longer than
//     patience, because its Handler waits or has much to do, the watch has a new
//     one run the loop, and the old one goes on with that socket aside.
//   - A descriptor is closed when its Handler has been told of the end and nobody
//     writes any more. So its number is never that of another connection while
//     somebody may still use it.
//   - The epoll descriptor of a loop is itself waited for by Go's poller, so that
//     a loop at rest holds no thread. The sockets are not known to that poller.
type loops struct {
	engine *Engine
	start  sync.Once
	failed error // why there are none
	all    []*loop
	table  *table
	watch  *watch
	wg     sync.WaitGroup
}

// loop waits for its share of the sockets.
type loop struct {
	loops *loops
	epoll int
	file  *os.File // of epoll
	raw   syscall.RawConn
	poll  func(fd uintptr) bool // pollOnce, bound once

	// Of the goroutine that runs the loop.
	events  [128]syscall.EpollEvent
	next, n int

	sockets atomic.Int64  // that belong to it
	work    atomic.Uint64 // counts the beginnings and ends of work on a socket: odd while at work
}

func newLoops(e *Engine) *loops { return &loops{engine: e} }

// ready starts the loops with the first socket.
func (ls *loops) ready() error {
	ls.start.Do(func() {
		ls.table = new(table)
		for range runtime.GOMAXPROCS(0) {
			l, err := ls.newLoop()
			if err != nil {
				ls.failed = fmt.Errorf("petrel: epoll: %w", err)
				return
			}
			ls.all = append(ls.all, l)
		}
		ls.watch = newWatch(ls)
		for _, l := range ls.all {
			ls.wg.Go(l.run)
		}
	})
	return ls.failed
}

func (ls *loops) newLoop() (*loop, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // or os.NewFile would not give it to the poller
		syscall.Close(fd)
		return nil, err
	}
	l := &loop{loops: ls, epoll: fd, file: os.NewFile(uintptr(fd), "epoll")}
	l.poll = l.pollOnce
	if l.raw, err = l.file.SyscallConn(); err != nil {
		l.file.Close()
		return nil, err
	}
	return l, nil
}

// choose returns the loop for one more socket: that with the fewest, and any of those by
// chance. Were they dealt out in turn, clients that come in turn, one that subscribes
// and one that publishes, would leave all publishers to one loop.
func (ls *loops) choose() *loop {
	from := rand.IntN(len(ls.all))
	best := ls.all[from]
	for i := range ls.all {
		if l := ls.all[(from+i)%len(ls.all)]; l.sockets.Load() < best.sockets.Load() {
			best = l
		}
	}
	return best
}

// close ends the loops. There must be no more sockets.
func (ls *loops) close() {
	ls.start.Do(func() { ls.failed = net.ErrClosed }) // none will start
	for _, l := range ls.all {
		l.file.Close()
	}
	if ls.watch != nil { // or they have never started
		close(ls.watch.stop)
	}
	ls.wg.Wait()
}

// run serves what is ready, and waits for more, until the loop is closed or
// another goroutine has taken it over.
func (l *loop) run() {
	var r Round // of the sockets that are ready at once, nil before the first
	finish := func() {
		if r != nil {
			r.Finish()
			r = nil
		}
	}
	defer finish()
	for {
		for l.next < l.n {
			e := l.events[l.next]
			l.next++
			if !l.serve(&r, int(e.Fd), e.Events) {
				return
			}
		}
		finish()
		if l.raw.Read(l.poll) != nil {
			return
		}
	}
}

// pollOnce asks which sockets are ready, and reports whether any is.
func (l *loop) pollOnce(fd uintptr) bool {
	l.next = 0
	l.n, _ = epollReady(int(fd), l.events[:])
	return l.n > 0
}

// serve does what is to be done about one socket. It reports false if that took
// so long that the loop has been taken over.
func (l *loop) serve(r *Round, fd int, events uint32) bool {
	s := l.loops.table.get(fd)
	if s == nil || s.loop != l {
		return true // it was closed after the event
	}
	began := l.work.Add(1)
	l.loops.watch.wake()
	l.move(r, s, events)
	return l.work.CompareAndSwap(began, began+1)
}

// move moves bytes: those that wait to be written, and those that have come.
func (l *loop) move(r *Round, s *socket, events uint32) {
	defer func() {
		if reason := recover(); reason != nil {
			l.loops.engine.Panicked(reason)
			s.Abort()
		}
	}()
	const failed = syscall.EPOLLERR | syscall.EPOLLHUP
	if events&(syscall.EPOLLOUT|failed) != 0 {
		s.writable()
	}
	if events&(syscall.EPOLLIN|failed) != 0 {
		s.readable(r)
	}
}

// handle gives what a socket has received to its Handler. The sockets that are
// ready at once share a round, unless one of them might make the others wait.
func (ls *loops) handle(r *Round, s *socket) error {
	if ls.engine.Alone {
		return s.in.handle(ls.engine, s.handler)
	}
	if *r == nil {
		*r = ls.engine.Rounds()
	}
	return s.in.handleIn(*r, s.handler)
}

// table finds a socket by its descriptor, without a lock.
type table struct {
	mu     sync.Mutex // of making chunks
	chunks [1 << 12]atomic.Pointer[chunk]
}

type chunk [1 << 10]atomic.Pointer[socket]

func (t *table) get(fd int) *socket {
	if c := t.chunks[fd/len(chunk{})].Load(); c != nil {
		return c[fd%len(c)].Load()
	}
	return nil
}

// put notes the socket of a descriptor, nil when it has none any more.
func (t *table) put(fd int, s *socket) {
	at := &t.chunks[fd/len(chunk{})]
	if at.Load() == nil {
		t.mu.Lock()
		if at.Load() == nil {
			at.Store(new(chunk))
		}
		t.mu.Unlock()
	}
	at.Load()[fd%len(chunk{})].Store(s)
}
