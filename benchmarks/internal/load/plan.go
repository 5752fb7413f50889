//go:build linux

package load

// Plan is what the clients of one run do.
type Plan struct {
	Clients []Client

	// Rate is how many messages all publishers together, but for those in the
	// background, send per second, at even distances and whatever the broker does. 0
	// means that each publisher sends whenever its window allows it.
	Rate float64

	// Churn makes every client leave as soon as it is subscribed, and come again.
	Churn bool
}

// Client is one connection.
type Client struct {
	ID      string
	Filters []string // subscribed to after CONNACK, in one packet
	QoS     byte     // of the subscriptions
	Deaf    bool     // never reads after it has subscribed; nothing is expected of it
	Lasting bool     // its session outlives the connection, and so may have to be stored
	Publish *Publishing
}

// Publishing is what a client publishes.
type Publishing struct {
	Topics  []string // one after the other, and again
	QoS     byte
	Retain  bool
	Payload int // bytes, at least PayloadMin

	// Window is how many messages may be open: with QoS 1 and 2 not acknowledged
	// by the broker, and in any case not delivered to all who are to get them.
	Window int

	// Fan is how many clients get each message. 0 means that deliveries are not
	// waited for.
	Fan int

	// Limit ends the publishing after as many messages; 0 means no end.
	Limit int

	// Background makes this the load beside which others are measured: it sends
	// whenever its window allows it, and what it takes does not count for Loop.Latency.
	Background bool

	// TimeAcks records in Loop.AckLatency when the broker has acknowledged, which it
	// does in the order of the messages.
	TimeAcks bool
}
