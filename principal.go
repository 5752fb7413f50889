package petrel

// principal is who a client is: whom its session belongs to, and who has
// published what it left behind. It is immutable once the client is accepted, and
// shared by the connection, its session and its messages.
type principal struct {
	id       string // client identifier
	identity string // what an Authenticator found, else the user name
	userName string
	host     bool // a name that the host gave to its own message
}

// nobody is who a connection is before its CONNECT.
var nobody principal

// name is the client identifier. Nil is the host or the broker.
func (p *principal) name() string {
	if p == nil {
		return ""
	}
	return p.id
}

// hostNamed returns who the host says has published a message.
func hostNamed(id string) *principal {
	if id == "" {
		return nil
	}
	return &principal{id: id, host: true}
}
