package engine

// Credentials say who connected at the other end of a Unix socket.
type Credentials struct {
	UID, GID uint32
	PID      int32
}
