//go:build linux

package load

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/petrelmq/petrel/benchmarks/internal/raw"
)

// pace sends at a rate that does not depend on the broker. Each message carries
// the time at which it was due, so that a delay of the generator or of the broker
// counts for every message that it holds up.
type pace struct {
	fd    int     // timerfd, -1 if there is none
	began int64   // loop's clock
	every float64 // nanoseconds from message to message
	sent  int64
}

func (l *Loop) beginPace() error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("timerfd_create: %w", err)
	}
	l.pace = pace{fd: fd, began: l.clock(), every: 1e9 / l.plan.Rate}
	interval := unix.NsecToTimespec(int64(max(l.pace.every, 50_000)))
	if err := unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Interval: interval, Value: interval}, nil); err != nil {
		return fmt.Errorf("timerfd_settime: %w", err)
	}
	err = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
	if err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// tick sends what is due, by the paced publishers in turn.
func (l *Loop) tick() error {
	var count [8]byte
	_, _ = raw.Read(l.pace.fd, count[:])
	for now := l.clock(); ; l.pace.sent++ {
		due := l.pace.began + int64(float64(l.pace.sent)*l.pace.every)
		if due > now {
			return nil
		}
		p := l.paced[int(l.pace.sent)%len(l.paced)]
		l.encode(p, due)
		l.touch(p.conn)
	}
}

func (p *pace) close() {
	if p.fd >= 0 {
		_ = unix.Close(p.fd)
		p.fd = -1
	}
}
