package petrel

import (
	"errors"
	"strings"

	"github.com/petrelmq/petrel/packets"
)

// ErrBrokerClosed is returned by [Broker.Serve] and its kin after
// [Broker.Close] or [Broker.Shutdown].
var ErrBrokerClosed = errors.New("petrel: broker closed")

// ErrNoSuchClient is returned by [Broker.Disconnect] when no client with that
// identifier is connected.
var ErrNoSuchClient = errors.New("petrel: no such client connected")

// Refusal is an error that a hook returns, or that a host gives to
// [Broker.Disconnect], when the client is to learn more than a reason code.
// Only 5.0 clients can be told. An ordinary error tells the client nothing but
// its reason code: its text is for the log.
type Refusal struct {
	Code            ReasonCode     // 0x80 or above
	ReasonString    string         // for diagnosis by a human; empty means none
	ServerReference string         // with UseAnotherServer and ServerMoved: "host[:port]", several separated by spaces
	UserProperties  []UserProperty // sent along in this order
	Err             error          // the cause, for the log only; may be nil
}

func (r *Refusal) Error() string {
	s := "petrel: refused: " + r.Code.String()
	if r.ReasonString != "" {
		s += ": " + r.ReasonString
	}
	if r.Err != nil {
		s += ": " + r.Err.Error()
	}
	return s
}

// Unwrap gives the reason code and the cause to [errors.Is] and [errors.As].
func (r *Refusal) Unwrap() []error {
	if r.Err == nil {
		return []error{r.Code}
	}
	return []error{r.Code, r.Err}
}

// text makes of a string of the host one that MQTT can carry: a client would
// have to close the connection for any other.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// toPeer is what a 5.0 client may be told about err beside its reason code:
// what a [Refusal] says, or which field of its own packet was wrong.
func toPeer(err error) (reason, reference string, properties []UserProperty) {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return text(r.ReasonString), text(r.ServerReference), r.UserProperties
	}
	if _, ok := errors.AsType[*decision](err); ok {
		return "", "", nil
	}
	if e, ok := errors.AsType[*packets.Error](err); ok {
		return e.Detail, "", nil
	}
	return "", "", nil
}
