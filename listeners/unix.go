package listeners

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// Unix listens on a unix domain socket at path and gives its file the
// permission bits of mode; zero means 0600, the owner alone.
//
// A socket file that a dead process left behind is replaced. If somebody
// listens on it the error matches [syscall.EADDRINUSE], and if path is
// anything but a socket the error matches [fs.ErrExist]; neither is touched.
// Two processes that start at the same moment on the same stale file are not
// told apart. Closing the listener removes the file.
//
// The mode is set right after the file appears; where the umask is looser
// than mode, let the directory keep strangers out.
func Unix(path string, mode os.FileMode) (net.Listener, error) {
	if path == "" || path[0] == '@' || path[0] == 0 {
		// net.Listen would pick a name without a file, where mode means nothing.
		return nil, fmt.Errorf("listeners: listen on unix socket %q: path must name a file", path)
	}
	if mode == 0 {
		mode = 0o600
	}
	if err := removeStale(path); err != nil {
		return nil, fmt.Errorf("listeners: listen on unix socket %s: %w", path, err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, mode.Perm()); err != nil {
		_ = l.Close() // the error of Chmod says more
		return nil, fmt.Errorf("listeners: listen on unix socket: %w", err)
	}
	return l, nil
}

// removeStale removes the socket at path if nobody listens on it.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("not a socket: %w", fs.ErrExist)
	}
	c, err := net.Dial("unix", path)
	switch {
	case err == nil:
		_ = c.Close()
		return syscall.EADDRINUSE
	case errors.Is(err, syscall.ECONNREFUSED):
		err = os.Remove(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	// A full backlog, no permission: not proof that nobody listens.
	return err
}
