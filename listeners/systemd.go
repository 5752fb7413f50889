package listeners

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

// Inherited is a listener that the service manager has opened for this process.
type Inherited struct {
	Name string // FileDescriptorName= of the socket unit, or the unit's own name
	net.Listener
}

// Systemd returns the sockets that systemd, or another service manager with its
// protocol of socket activation, has opened for this process: in the order in
// which they were passed, none where the process was started otherwise. So a
// broker can have ports below 1024 without rights of its own, and can be restarted
// while clients that connect wait.
//
// The first call takes them, and the variables LISTEN_PID, LISTEN_FDS and
// LISTEN_FDNAMES with them: further calls return none, and processes that this one
// starts do not take them for theirs. A socket that is not one for connections, or
// is a connection itself (Accept=yes), is an error; then none is open. Closing a
// listener leaves the file of a Unix socket where it is: it is the manager's.
func Systemd() ([]Inherited, error) {
	pid, count, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	if pid != strconv.Itoa(os.Getpid()) {
		return nil, nil // they are of another process
	}
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(name) // of a name without "=" it cannot fail
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 {
		return nil, fmt.Errorf("listeners: LISTEN_FDS is %q, no number of sockets", count)
	}
	return inherit(n, strings.Split(names, ":"))
}

// inherit makes listeners of the descriptors behind the standard ones.
func inherit(n int, names []string) (list []Inherited, err error) {
	const first = 3
	for i := range n {
		name := "unknown" // what systemd says where it has no name
		if i < len(names) && names[i] != "" {
			name = names[i]
		}
		l, failed := listenOn(os.NewFile(uintptr(first+i), name))
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("listeners: inherited socket %d, %q: %w", i, name, failed))
			continue
		}
		list = append(list, Inherited{name, l})
	}
	if err != nil {
		for _, l := range list {
			_ = l.Close()
		}
		return nil, err
	}
	return list, nil
}

func listenOn(f *os.File) (net.Listener, error) {
	if f == nil {
		return nil, os.ErrInvalid
	}
	l, err := net.FileListener(f)
	return l, errors.Join(err, f.Close())
}
