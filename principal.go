package petrel

// principal is who a client is: whom its session belongs to, and who has
// published what it left behind. It is immutable once the client is accepted, and
// shared by the connection, its session and its messages.
type principal struct {
	id string // client identifier
	*account
}

// account is in whose name a client is there. Clients without a name share one.
type account struct {
	identity string // what an Authenticator found, else the user name
	userName string
}

var (
	anonymous account
	host      account // of whom the host program says that it has published its own message

	// nobody is who a connection is before its CONNECT.
	nobody = principal{account: &anonymous}
)

func accountOf(identity, userName string) *account {
	switch {
	case identity == "" && userName == "":
		return &anonymous
	case identity == userName:
		identity = userName // once in memory
	}
	return &account{identity, userName}
}

// name is the client identifier. Nil is the host or the broker.
func (p *principal) name() string {
	if p == nil {
		return ""
	}
	return p.id
}

// isHost reports whether the host has published, under whatever name.
func (p *principal) isHost() bool { return p == nil || p.account == &host }

// hostNamed returns who the host says has published a message.
func hostNamed(id string) *principal {
	if id == "" {
		return nil
	}
	return &principal{id, &host}
}
