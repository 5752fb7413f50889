package engine

import (
	"math"
	"net"
	"syscall"
)

// CredentialsOf returns who is at the other end of c, if c is a Unix socket that is open.
func CredentialsOf(c net.Conn) (found Credentials, ok bool) {
	u, isUnix := c.(*net.UnixConn)
	if !isUnix {
		return Credentials{}, false
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return Credentials{}, false
	}
	err = raw.Control(func(fd uintptr) { found, ok = credentials(int(fd)) })
	return found, ok && err == nil
}

// Credentials returns who is at the other end, if that is a Unix socket that is open.
func (s *socket) Credentials() (Credentials, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.peer.IsValid() {
		return Credentials{}, false
	}
	return credentials(s.fd)
}

func credentials(fd int) (Credentials, bool) {
	c, err := syscall.GetsockoptUcred(fd, syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	if err != nil || c.Uid == math.MaxUint32 { // the system does not know
		return Credentials{}, false
	}
	return Credentials{UID: c.Uid, GID: c.Gid, PID: c.Pid}, true
}
