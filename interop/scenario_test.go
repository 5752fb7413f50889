package interop

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var drivers = []driver{mosquitto, pahoPython, pahoGo3, pahoGo5, mqttJS}

// driver is one client, as far as the scenarios need it.
type driver struct {
	name       string
	title      string // in README.md
	versions   []string
	transports []string

	// missing says what to install when the client cannot run here; nil means
	// that it always can.
	missing func() error

	// subscribe connects and subscribes, and does so again whenever the
	// connection breaks, until the test ends.
	subscribe func(t *testing.T, o options, filter string, qos int) *subscriber

	// publish connects, publishes, disconnects, and returns when the broker has
	// acknowledged the message.
	publish func(t *testing.T, o options, m message)
}

// options say how a client connects.
type options struct {
	addr      string // HOST:PORT, or the path of a Unix socket
	transport transport
	version   string // "3.1", "3.1.1" or "5.0"
	id        string // empty leaves it to the client or the broker
	will      *message
	restarts  bool // the broker will restart, and clients may end because of it
}

type message struct {
	Topic   string `json:"topic"`
	Payload string `json:"payload"`
	QoS     int    `json:"qos"`
	Retain  bool   `json:"retain"`
}

// subscriber is a running client that has a subscription.
type subscriber struct {
	subscribed chan struct{} // one value for each SUBACK
	messages   chan message
	cut        func() // ends the connection without DISCONNECT, for good
}

func newSubscriber() *subscriber {
	return &subscriber{subscribed: make(chan struct{}, 100), messages: make(chan message, 100)}
}

const patience = 30 * time.Second

func (s *subscriber) waitUntilSubscribed(t *testing.T) {
	t.Helper()
	select {
	case <-s.subscribed:
	case <-time.After(patience):
		require.FailNow(t, "no SUBACK")
	}
}

func (s *subscriber) next(t *testing.T) message {
	t.Helper()
	select {
	case m := <-s.messages:
		return m
	case <-time.After(patience):
		require.FailNow(t, "no message")
		return message{}
	}
}

func TestClients(t *testing.T) {
	for _, d := range drivers {
		t.Run(d.name, func(t *testing.T) {
			d.require(t)
			for _, tr := range transports {
				for _, version := range d.over(tr) {
					t.Run(version+"/"+tr.name, func(t *testing.T) {
						o := options{addr: tr.broker().addr(t, tr), transport: tr, version: version}
						for qos := range 3 {
							t.Run(fmt.Sprintf("qos %d", qos), func(t *testing.T) { t.Parallel(); exchange(t, d, o, qos) })
						}
						t.Run("retained message", func(t *testing.T) { t.Parallel(); retained(t, d, o) })
						t.Run("last will", func(t *testing.T) { t.Parallel(); lastWill(t, d, o) })
						t.Run("broker restarts", func(t *testing.T) { t.Parallel(); restart(t, d, o) })
					})
				}
			}
		})
	}
}

// TestAcrossVersions has every client send to every version of another one.
func TestAcrossVersions(t *testing.T) {
	for _, from := range drivers {
		for _, to := range []driver{pahoGo3, pahoGo5} {
			t.Run(from.name+" to "+to.name, func(t *testing.T) {
				from.require(t)
				for _, version := range from.versions {
					t.Run(version, func(t *testing.T) {
						t.Parallel()
						m := message{unique(), "across", 1, false}
						s := to.start(t, options{addr: shared.addr(t, tcp), transport: tcp, version: to.versions[0]}, m.Topic, 2)
						from.publish(t, options{addr: shared.addr(t, tcp), transport: tcp, version: version, id: idFor(version)}, m)
						assert.Equal(t, m, s.next(t))
					})
				}
			})
		}
	}
}

// require ends the test when the client cannot run here.
func (d driver) require(t *testing.T) {
	t.Helper()
	if d.missing == nil {
		return
	}
	if err := d.missing(); err != nil {
		if inCI {
			require.FailNow(t, d.name+" cannot run", err.Error())
		}
		t.Skipf("%s cannot run: %v", d.name, err)
	}
}

// start returns a client that is subscribed.
func (d driver) start(t *testing.T, o options, filter string, qos int) *subscriber {
	t.Helper()
	o.id = unique()
	s := d.subscribe(t, o, filter, qos)
	s.waitUntilSubscribed(t)
	return s
}

func exchange(t *testing.T, d driver, o options, qos int) {
	topic := unique()
	s := d.start(t, o, topic+"/+", qos)
	o.id = idFor(o.version)
	want := []message{
		{topic + "/plain", "23.5", qos, false},
		{topic + "/utf-8 ünïcødé", "grüße 🐦", qos, false},
		{topic + "/empty", "", qos, false},
		{topic + "/large", strings.Repeat("petrel ", 15_000), qos, false},
	}
	for _, m := range want {
		d.publish(t, o, m)
		assert.Equal(t, m, s.next(t))
	}
}

func retained(t *testing.T, d driver, o options) {
	topic := unique()
	publisher := o
	publisher.id = idFor(o.version)
	kept := message{topic + "/state", "on", 1, true}
	d.publish(t, publisher, kept)

	late := d.start(t, o, topic+"/#", 1)
	assert.Equal(t, kept, late.next(t), "to a new subscription")

	live := message{topic + "/state", "off", 1, true}
	d.publish(t, publisher, live)
	live.Retain = false
	assert.Equal(t, live, late.next(t), "to a subscription that was there")

	d.publish(t, publisher, message{topic + "/state", "", 1, true})
	marker := message{topic + "/marker", "nothing was retained", 1, false}
	after := d.start(t, o, topic+"/#", 1)
	d.publish(t, publisher, marker)
	assert.Equal(t, marker, after.next(t), "after the empty message")
}

func lastWill(t *testing.T, d driver, o options) {
	topic := unique()
	watcher := d.start(t, o, topic+"/#", 2)
	for qos := range 3 {
		will := message{topic + "/status", "gone " + strconv.Itoa(qos), qos, false}
		mortal := o
		mortal.will = &will
		d.start(t, mortal, topic+"-other", 0).cut()
		assert.Equal(t, will, watcher.next(t))
	}
}

func restart(t *testing.T, d driver, o options) {
	if !shared.ours() {
		skip(t, "the broker is not ours to restart")
	}
	b := startBroker(t, o.transport.mutual)
	o.addr, o.restarts = b.addr(t, o.transport), true
	topic := unique()
	s := d.start(t, o, topic, 1)
	b.stop(t)
	b.start(t)
	s.waitUntilSubscribed(t)
	o.id = idFor(o.version)
	m := message{topic, "back again", 1, false}
	d.publish(t, o, m)
	assert.Equal(t, m, s.next(t))
}

var counter atomic.Int64

// unique returns a name that serves as a topic and as a client identifier of
// MQTT 3.1, which may have 23 characters.
func unique() string {
	return fmt.Sprintf("t%x-%d", time.Now().UnixMilli()&0xFFFFFFFF, counter.Add(1))
}

// idFor returns a client identifier where the version asks for one.
func idFor(version string) string {
	if version == "3.1" {
		return unique()
	}
	return ""
}
