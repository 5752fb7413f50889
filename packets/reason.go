package packets

import (
	"errors"
	"fmt"
)

// ReasonCode tells how a request ended (MQTT 5.0, section 2.4). Codes of 0x80 and
// above are failures and serve as errors; the others are not meant to be
// returned as an error.
type ReasonCode byte

// The reason codes, named as in the standard. 0x00 has three names.
const (
	Success                             ReasonCode = 0x00
	NormalDisconnection                 ReasonCode = 0x00
	GrantedQoS0                         ReasonCode = 0x00
	GrantedQoS1                         ReasonCode = 0x01
	GrantedQoS2                         ReasonCode = 0x02
	DisconnectWithWill                  ReasonCode = 0x04
	NoMatchingSubscribers               ReasonCode = 0x10
	NoSubscriptionExisted               ReasonCode = 0x11
	ContinueAuthentication              ReasonCode = 0x18
	Reauthenticate                      ReasonCode = 0x19
	UnspecifiedError                    ReasonCode = 0x80
	MalformedPacket                     ReasonCode = 0x81
	ProtocolError                       ReasonCode = 0x82
	ImplementationSpecificError         ReasonCode = 0x83
	UnsupportedProtocolVersion          ReasonCode = 0x84
	ClientIdentifierNotValid            ReasonCode = 0x85
	BadUserNameOrPassword               ReasonCode = 0x86
	NotAuthorized                       ReasonCode = 0x87
	ServerUnavailable                   ReasonCode = 0x88
	ServerBusy                          ReasonCode = 0x89
	Banned                              ReasonCode = 0x8A
	ServerShuttingDown                  ReasonCode = 0x8B
	BadAuthenticationMethod             ReasonCode = 0x8C
	KeepAliveTimeout                    ReasonCode = 0x8D
	SessionTakenOver                    ReasonCode = 0x8E
	TopicFilterInvalid                  ReasonCode = 0x8F
	TopicNameInvalid                    ReasonCode = 0x90
	PacketIdentifierInUse               ReasonCode = 0x91
	PacketIdentifierNotFound            ReasonCode = 0x92
	ReceiveMaximumExceeded              ReasonCode = 0x93
	TopicAliasInvalid                   ReasonCode = 0x94
	PacketTooLarge                      ReasonCode = 0x95
	MessageRateTooHigh                  ReasonCode = 0x96
	QuotaExceeded                       ReasonCode = 0x97
	AdministrativeAction                ReasonCode = 0x98
	PayloadFormatInvalid                ReasonCode = 0x99
	RetainNotSupported                  ReasonCode = 0x9A
	QoSNotSupported                     ReasonCode = 0x9B
	UseAnotherServer                    ReasonCode = 0x9C
	ServerMoved                         ReasonCode = 0x9D
	SharedSubscriptionsNotSupported     ReasonCode = 0x9E
	ConnectionRateExceeded              ReasonCode = 0x9F
	MaximumConnectTime                  ReasonCode = 0xA0
	SubscriptionIdentifiersNotSupported ReasonCode = 0xA1
	WildcardSubscriptionsNotSupported   ReasonCode = 0xA2
)

// reasonCodes lists for every code its text and the packets that may carry it
// (MQTT 5.0, table 2-6). Which side may send a code is not recorded.
var reasonCodes = [...]struct {
	text string
	in   packetSet
}{
	Success:                             {"success", inConnack | inPuback | inPubrec | inPubrel | inPubcomp | inSuback | inUnsuback | inDisconnect | inAuth},
	GrantedQoS1:                         {"granted QoS 1", inSuback},
	GrantedQoS2:                         {"granted QoS 2", inSuback},
	DisconnectWithWill:                  {"disconnect with will message", inDisconnect},
	NoMatchingSubscribers:               {"no matching subscribers", inPuback | inPubrec},
	NoSubscriptionExisted:               {"no subscription existed", inUnsuback},
	ContinueAuthentication:              {"continue authentication", inAuth},
	Reauthenticate:                      {"re-authenticate", inAuth},
	UnspecifiedError:                    {"unspecified error", inConnack | inPuback | inPubrec | inSuback | inUnsuback | inDisconnect},
	MalformedPacket:                     {"malformed packet", inConnack | inDisconnect},
	ProtocolError:                       {"protocol error", inConnack | inDisconnect},
	ImplementationSpecificError:         {"implementation specific error", inConnack | inPuback | inPubrec | inSuback | inUnsuback | inDisconnect},
	UnsupportedProtocolVersion:          {"unsupported protocol version", inConnack},
	ClientIdentifierNotValid:            {"client identifier not valid", inConnack},
	BadUserNameOrPassword:               {"bad user name or password", inConnack},
	NotAuthorized:                       {"not authorized", inConnack | inPuback | inPubrec | inSuback | inUnsuback | inDisconnect},
	ServerUnavailable:                   {"server unavailable", inConnack},
	ServerBusy:                          {"server busy", inConnack | inDisconnect},
	Banned:                              {"banned", inConnack},
	ServerShuttingDown:                  {"server shutting down", inDisconnect},
	BadAuthenticationMethod:             {"bad authentication method", inConnack | inDisconnect},
	KeepAliveTimeout:                    {"keep alive timeout", inDisconnect},
	SessionTakenOver:                    {"session taken over", inDisconnect},
	TopicFilterInvalid:                  {"topic filter invalid", inSuback | inUnsuback | inDisconnect},
	TopicNameInvalid:                    {"topic name invalid", inConnack | inPuback | inPubrec | inDisconnect},
	PacketIdentifierInUse:               {"packet identifier in use", inPuback | inPubrec | inSuback | inUnsuback},
	PacketIdentifierNotFound:            {"packet identifier not found", inPubrel | inPubcomp},
	ReceiveMaximumExceeded:              {"receive maximum exceeded", inDisconnect},
	TopicAliasInvalid:                   {"topic alias invalid", inDisconnect},
	PacketTooLarge:                      {"packet too large", inConnack | inDisconnect},
	MessageRateTooHigh:                  {"message rate too high", inDisconnect},
	QuotaExceeded:                       {"quota exceeded", inConnack | inPuback | inPubrec | inSuback | inDisconnect},
	AdministrativeAction:                {"administrative action", inDisconnect},
	PayloadFormatInvalid:                {"payload format invalid", inConnack | inPuback | inPubrec | inDisconnect},
	RetainNotSupported:                  {"retain not supported", inConnack | inDisconnect},
	QoSNotSupported:                     {"QoS not supported", inConnack | inDisconnect},
	UseAnotherServer:                    {"use another server", inConnack | inDisconnect},
	ServerMoved:                         {"server moved", inConnack | inDisconnect},
	SharedSubscriptionsNotSupported:     {"shared subscriptions not supported", inSuback | inDisconnect},
	ConnectionRateExceeded:              {"connection rate exceeded", inConnack | inDisconnect},
	MaximumConnectTime:                  {"maximum connect time", inDisconnect},
	SubscriptionIdentifiersNotSupported: {"subscription identifiers not supported", inSuback | inDisconnect},
	WildcardSubscriptionsNotSupported:   {"wildcard subscriptions not supported", inSuback | inDisconnect},
}

// IsError reports whether c is a failure, 0x80 or above.
func (c ReasonCode) IsError() bool {
	return c >= 0x80
}

// String returns the standard's name for c in lower case.
func (c ReasonCode) String() string {
	if int(c) < len(reasonCodes) && reasonCodes[c].text != "" {
		return reasonCodes[c].text
	}
	return fmt.Sprintf("reason code 0x%02X", byte(c))
}

// Error returns the text of c behind the prefix "mqtt: ".
func (c ReasonCode) Error() string {
	return "mqtt: " + c.String()
}

// AllowedIn reports whether a packet of type t may carry c in MQTT 5.0.
func (c ReasonCode) AllowedIn(t Type) bool {
	return int(c) < len(reasonCodes) && reasonCodes[c].in.has(t)
}

// Error is a failure with the code to report to the peer. [errors.Is] and
// [errors.As] find Code, if it is a failure, and whatever Err holds.
type Error struct {
	Code ReasonCode
	// Detail says for the log what was wrong with what. It may be empty.
	Detail string
	// Err is the cause, nil if there is none.
	Err error
}

// Error returns a text such as "mqtt: malformed packet: topic at byte 2".
func (e *Error) Error() string {
	s := e.Code.Error()
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the code and the cause.
func (e *Error) Unwrap() []error {
	var errs []error
	if e.Code.IsError() {
		errs = append(errs, e.Code)
	}
	if e.Err != nil {
		errs = append(errs, e.Err)
	}
	return errs
}

// ReasonOf reports the code to send for err: Success for nil, else the first
// failure found in its tree, else UnspecifiedError.
func ReasonOf(err error) ReasonCode {
	var c ReasonCode
	switch {
	case err == nil:
		return Success
	case errors.As(err, &c) && c.IsError():
		return c
	}
	return UnspecifiedError
}

// ConnackReturnCode reports the return code that stands for c in a CONNACK of
// MQTT 3.1.1 and 3.1. ok is false if there is none, which means to close the
// connection without CONNACK.
func ConnackReturnCode(c ReasonCode) (code byte, ok bool) {
	switch c {
	case Success:
		return 0, true
	case UnsupportedProtocolVersion:
		return 1, true
	case ClientIdentifierNotValid:
		return 2, true
	case ServerUnavailable, ServerBusy, UseAnotherServer, ServerMoved, ConnectionRateExceeded,
		QuotaExceeded, UnspecifiedError, ImplementationSpecificError:
		return 3, true
	case BadUserNameOrPassword, BadAuthenticationMethod:
		return 4, true
	case NotAuthorized, Banned:
		return 5, true
	}
	return 0, false
}

// returnCodes are the reason codes that the return codes 0 to 5 decode to.
var returnCodes = [...]ReasonCode{
	Success,
	UnsupportedProtocolVersion,
	ClientIdentifierNotValid,
	ServerUnavailable,
	BadUserNameOrPassword,
	NotAuthorized,
}
