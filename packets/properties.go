package packets

// packetSet is a set of the places that a property or a reason code can be in.
type packetSet uint32

const (
	inWill        packetSet = 1 // the will properties of CONNECT
	inConnect     packetSet = 1 << TypeConnect
	inConnack     packetSet = 1 << TypeConnack
	inPublish     packetSet = 1 << TypePublish
	inPuback      packetSet = 1 << TypePuback
	inPubrec      packetSet = 1 << TypePubrec
	inPubrel      packetSet = 1 << TypePubrel
	inPubcomp     packetSet = 1 << TypePubcomp
	inSubscribe   packetSet = 1 << TypeSubscribe
	inSuback      packetSet = 1 << TypeSuback
	inUnsubscribe packetSet = 1 << TypeUnsubscribe
	inUnsuback    packetSet = 1 << TypeUnsuback
	inDisconnect  packetSet = 1 << TypeDisconnect
	inAuth        packetSet = 1 << TypeAuth
	forwardable   packetSet = 1 << 16 // a message takes it along from publisher to subscriber

	inAcks = inPuback | inPubrec | inPubrel | inPubcomp | inSuback | inUnsuback
	inAll  = inWill | inConnect | inConnack | inPublish | inAcks | inSubscribe | inUnsubscribe |
		inDisconnect | inAuth | forwardable
)

func (s packetSet) has(t Type) bool {
	return s>>t&1 != 0
}

// The property identifiers (MQTT 5.0, table 2-4). They are Variable Byte
// Integers, but all of them fit in one byte.
const (
	propPayloadFormat          byte = 0x01
	propMessageExpiry          byte = 0x02
	propContentType            byte = 0x03
	propResponseTopic          byte = 0x08
	propCorrelationData        byte = 0x09
	propSubscriptionID         byte = 0x0B
	propSessionExpiry          byte = 0x11
	propAssignedClientID       byte = 0x12
	propServerKeepAlive        byte = 0x13
	propAuthenticationMethod   byte = 0x15
	propAuthenticationData     byte = 0x16
	propRequestProblemInfo     byte = 0x17
	propWillDelay              byte = 0x18
	propRequestResponseInfo    byte = 0x19
	propResponseInfo           byte = 0x1A
	propServerReference        byte = 0x1C
	propReasonString           byte = 0x1F
	propReceiveMaximum         byte = 0x21
	propTopicAliasMaximum      byte = 0x22
	propTopicAlias             byte = 0x23
	propMaximumQoS             byte = 0x24
	propRetainAvailable        byte = 0x25
	propUserProperty           byte = 0x26
	propMaximumPacketSize      byte = 0x27
	propWildcardAvailable      byte = 0x28
	propSubscriptionIDsAllowed byte = 0x29
	propSharedAvailable        byte = 0x2A
)

// propertyKind is the type of a property's value.
type propertyKind byte

const (
	kindFlag   propertyKind = iota + 1 // one byte, 0 or 1
	kindUint16                         // two bytes
	kindUint32                         // four bytes
	kindVarint                         // Variable Byte Integer
	kindText                           // UTF-8 Encoded String
	kindTopic                          // UTF-8 Encoded String that is a Topic Name
	kindBinary                         // Binary Data
	kindPair                           // UTF-8 String Pair
)

// properties describes every property; the identifier is the index. An entry
// without a kind is no property.
var properties = [...]struct {
	name string
	kind propertyKind
	in   packetSet
	// repeats are the packets that may carry it more than once.
	repeats packetSet
	// zero is the code for the value 0 where that is not legal.
	zero ReasonCode
}{
	propPayloadFormat:          {name: "payload format indicator", kind: kindFlag, in: inPublish | inWill | forwardable},
	propMessageExpiry:          {name: "message expiry interval", kind: kindUint32, in: inPublish | inWill},
	propContentType:            {name: "content type", kind: kindText, in: inPublish | inWill | forwardable},
	propResponseTopic:          {name: "response topic", kind: kindTopic, in: inPublish | inWill | forwardable},
	propCorrelationData:        {name: "correlation data", kind: kindBinary, in: inPublish | inWill | forwardable},
	propSubscriptionID:         {name: "subscription identifier", kind: kindVarint, in: inPublish | inSubscribe, repeats: inPublish, zero: ProtocolError},
	propSessionExpiry:          {name: "session expiry interval", kind: kindUint32, in: inConnect | inConnack | inDisconnect},
	propAssignedClientID:       {name: "assigned client identifier", kind: kindText, in: inConnack},
	propServerKeepAlive:        {name: "server keep alive", kind: kindUint16, in: inConnack},
	propAuthenticationMethod:   {name: "authentication method", kind: kindText, in: inConnect | inConnack | inAuth},
	propAuthenticationData:     {name: "authentication data", kind: kindBinary, in: inConnect | inConnack | inAuth},
	propRequestProblemInfo:     {name: "request problem information", kind: kindFlag, in: inConnect},
	propWillDelay:              {name: "will delay interval", kind: kindUint32, in: inWill},
	propRequestResponseInfo:    {name: "request response information", kind: kindFlag, in: inConnect},
	propResponseInfo:           {name: "response information", kind: kindText, in: inConnack},
	propServerReference:        {name: "server reference", kind: kindText, in: inConnack | inDisconnect},
	propReasonString:           {name: "reason string", kind: kindText, in: inConnack | inAcks | inDisconnect | inAuth},
	propReceiveMaximum:         {name: "receive maximum", kind: kindUint16, in: inConnect | inConnack, zero: ProtocolError},
	propTopicAliasMaximum:      {name: "topic alias maximum", kind: kindUint16, in: inConnect | inConnack},
	propTopicAlias:             {name: "topic alias", kind: kindUint16, in: inPublish, zero: TopicAliasInvalid},
	propMaximumQoS:             {name: "maximum QoS", kind: kindFlag, in: inConnack},
	propRetainAvailable:        {name: "retain available", kind: kindFlag, in: inConnack},
	propUserProperty:           {name: "user property", kind: kindPair, in: inAll, repeats: inAll},
	propMaximumPacketSize:      {name: "maximum packet size", kind: kindUint32, in: inConnect | inConnack, zero: ProtocolError},
	propWildcardAvailable:      {name: "wildcard subscription available", kind: kindFlag, in: inConnack},
	propSubscriptionIDsAllowed: {name: "subscription identifier available", kind: kindFlag, in: inConnack},
	propSharedAvailable:        {name: "shared subscription available", kind: kindFlag, in: inConnack},
}

// propertyKindOf reports the kind of a property, 0 if there is none.
func propertyKindOf(id byte) propertyKind {
	if int(id) < len(properties) {
		return properties[id].kind
	}
	return 0
}
