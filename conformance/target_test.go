package conformance_test

import (
	"flag"
	"fmt"
	"io"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/listeners"
	"github.com/petrelmq/petrel/packets"
)

var targetFlag = flag.String("target", "", "`HOST:PORT` of the broker to test over TCP; empty means petrel, in this process")

var patienceFlag = flag.Duration("patience", 10*time.Second, "how long to wait for an answer of the broker")

// statementTest is a test of one statement. Several may have the same id.
type statementTest struct {
	id    string
	name  string // what it looks at, if that is not all of the statement
	needs need
	run   func(t *T)
}

// need is what a test needs besides a broker.
type need byte

const (
	noMore need = iota
	passingTime
	network
)

// title is the name of the test below that of its suite.
func (s *statementTest) title() string {
	if s.name == "" {
		return s.id
	}
	return s.id + " " + s.name
}

// suite holds the tests of each standard; the files of this package add to it.
var suite = map[packets.Version][]statementTest{}

// register adds a test.
func register(v packets.Version, s statementTest) { suite[v] = append(suite[v], s) }

// mqtt5 and mqtt311 add a test of a statement.
func mqtt5(id, name string, run func(t *T)) {
	register(packets.V5, statementTest{id, name, noMore, run})
}

func mqtt311(id, name string, run func(t *T)) {
	register(packets.V311, statementTest{id, name, noMore, run})
}

// timed5 and timed311 add one that lets time pass, which is not waited for
// where the broker runs in this process.
func timed5(id, name string, run func(t *T)) {
	register(packets.V5, statementTest{id, name, passingTime, run})
}

func timed311(id, name string, run func(t *T)) {
	register(packets.V311, statementTest{id, name, passingTime, run})
}

// T is a test of one statement, and the broker that it talks to.
type T struct {
	*testing.T
	version packets.Version
	broker  *brokertest.Broker // nil if it is somebody else's
	dials   func() net.Conn
	bubble  bool      // in fake time, which no network is in
	tamper  *tampered // nil if nobody stands between the clients and the broker
}

func TestMQTT5(t *testing.T)   { run(t, packets.V5) }
func TestMQTT311(t *testing.T) { run(t, packets.V311) }

func run(t *testing.T, v packets.Version) {
	for _, s := range suite[v] {
		t.Run(s.title(), func(t *testing.T) { s.start(t, v) })
	}
}

// start runs the test, in fake time if there is time to pass or a mutation.
func (s *statementTest) start(t *testing.T, v packets.Version) {
	t.Parallel()
	if *targetFlag != "" || s.needs == network || s.needs == noMore && *mutationFlag == "" {
		s.run(&T{T: t, version: v})
		return
	}
	synctest.Test(t, func(t *testing.T) {
		s.run(&T{T: t, version: v, bubble: true, tamper: newTampered(t, v)})
	})
}

// Some tests that let time pass, over TCP and at the pace of the clock.
func TestRealTime(t *testing.T) {
	if *targetFlag != "" {
		t.Skip("TestMQTT5 and TestMQTT311 run in real time against -target")
	}
	for v, ids := range map[packets.Version][]string{
		packets.V5:   {"MQTT-3.1.2-22", "MQTT-3.1.3-9", "MQTT-3.3.2-5", "MQTT-4.1.0-2"},
		packets.V311: {"MQTT-3.1.2-24"},
	} {
		for _, id := range ids {
			i := slices.IndexFunc(suite[v], func(s statementTest) bool { return s.id == id && s.needs == passingTime })
			s := suite[v][i]
			t.Run(v.String()+" "+s.title(), func(t *testing.T) {
				t.Parallel()
				s.run(&T{T: t, version: v})
			})
		}
	}
}

// Unfit ends a test that a broker of somebody else, or a mutated one, is not fit for.
// Petrel has to be.
func (t *T) Unfit(args ...any) {
	t.Helper()
	if *targetFlag == "" && *mutationFlag == "" {
		t.Fatal(args...)
	}
	t.T.Skip(args...)
}

// With sets the broker up before the first connection. The test is skipped
// against a broker of somebody else, and says what it needed.
func (t *T) With(o petrel.Options) {
	t.Helper()
	if *targetFlag != "" {
		t.Unfit("needs ", describe(o))
	}
	if !slices.ContainsFunc(o.Hooks, func(h petrel.Hook) bool {
		_, plain := h.(petrel.Authenticator)
		_, enhanced := h.(petrel.EnhancedAuthenticator)
		return plain || enhanced
	}) {
		o.Hooks = append(o.Hooks, auth.AllowAll{})
	}
	if o.ConnectTimeout == 0 {
		o.ConnectTimeout = -1 // a test that wants a connection closed does not get it from here
	}
	if t.tamper != nil {
		t.tamper.setUp(&o)
	}
	t.broker = brokertest.New(t.T, o)
	if t.bubble {
		t.dials = t.listenInMemory()
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go t.broker.Serve(l)
	t.dials = dialer(t.T, l.Addr().String())
}

func (t *T) listenInMemory() func() net.Conn {
	l := listeners.Pipe()
	go t.broker.Serve(l)
	return func() net.Conn {
		conn, err := l.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if t.tamper != nil {
			conn = t.tamper.between(conn)
		}
		return conn
	}
}

// describe names the options that are set, and what the hooks do.
func describe(o petrel.Options) string {
	var set []string
	for _, h := range o.Hooks {
		switch h.(type) {
		case petrel.EnhancedAuthenticator:
			set = append(set, "an EnhancedAuthenticator")
		case petrel.Authenticator:
			set = append(set, "an Authenticator")
		case petrel.Authorizer:
			set = append(set, "an Authorizer")
		case petrel.Store:
			set = append(set, "a Store, and a restart")
		}
	}
	o.Hooks = nil
	v := reflect.ValueOf(o)
	for i := range v.NumField() {
		if f := v.Field(i); !f.IsZero() {
			set = append(set, fmt.Sprintf("%s %v", v.Type().Field(i).Name, f.Interface()))
		}
	}
	if len(set) == 0 {
		return "petrel itself, in this process"
	}
	return "a broker with " + strings.Join(set, ", ")
}

func dialer(t *testing.T, addr string) func() net.Conn {
	return func() net.Conn {
		conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
}

// Dial opens a connection on which nothing has been sent.
func (t *T) Dial() *brokertest.Client {
	t.Helper()
	return t.client(t.dialConn())
}

// client speaks on any connection.
func (t *T) client(conn net.Conn) *brokertest.Client {
	c := brokertest.NewClient(t.T, conn, t.version)
	c.SetPatience(*patienceFlag)
	return c
}

// dialConn is Dial for a test that reads bytes itself.
func (t *T) dialConn() net.Conn {
	t.Helper()
	switch {
	case t.dials != nil:
	case *targetFlag != "":
		t.dials = dialer(t.T, *targetFlag)
	default:
		t.With(petrel.Options{})
	}
	return t.dials()
}

// readPacket reads the bytes of one packet.
func readPacket(t *T, conn net.Conn) []byte {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(*patienceFlag)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 0, 64)
	for {
		h, n, err := packets.DecodeHeader(b)
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 && len(b) == n+h.Remaining {
			return b
		}
		one := make([]byte, 1)
		if _, err := io.ReadFull(conn, one); err != nil {
			t.Fatalf("after % x: %v", b, err)
		}
		b = append(b, one[0])
	}
}

// ids tells the clients and topics of different runs apart, against a broker
// that goes on.
var ids atomic.Int64

// Unique returns a text that no other test uses: a client identifier, or a topic.
func (t *T) Unique(prefix string) string {
	return fmt.Sprintf("%s-%x-%d", prefix, time.Now().UnixNano()&0xFFFFFF, ids.Add(1))
}

// CONNECT is one with a unique client identifier and a clean start.
func (t *T) CONNECT() packets.Connect {
	return packets.Connect{Version: t.version, ClientID: []byte(t.Unique("c")), CleanStart: true, KeepAlive: 60, ReceiveMaximum: 65535}
}

// TryConnect dials, sends p and returns the answer.
func (t *T) TryConnect(p packets.Connect) (*brokertest.Client, *packets.Connack) {
	t.Helper()
	c := t.Dial()
	c.Send(&p)
	return c, brokertest.Expect[*packets.Connack](c)
}

// Connect is TryConnect that must succeed.
func (t *T) Connect(p packets.Connect) *brokertest.Client {
	t.Helper()
	c, ack := t.TryConnect(p)
	if ack.Reason != packets.Success {
		t.Fatalf("CONNECT was refused: %v", ack.Reason)
	}
	return c
}

// Client connects with a unique client identifier and a clean start.
func (t *T) Client() *brokertest.Client {
	t.Helper()
	return t.Connect(t.CONNECT())
}

// Saw says which of several outcomes that are all right was seen.
func (t *T) Saw(format string, args ...any) {
	t.Helper()
	t.Logf("saw "+format, args...)
}

// Refused checks that the broker ends the connection: by closing it, and in 5.0
// with one of the codes before that, if it says why. Before CONNACK that has to
// be a CONNACK, afterwards a DISCONNECT.
func (t *T) Refused(c *brokertest.Client, codes ...packets.ReasonCode) {
	t.Helper()
	p, ok := c.Next()
	if !ok {
		t.Saw("a plain close")
		return
	}
	var code packets.ReasonCode
	switch p := p.(type) {
	case *packets.Connack:
		code = p.Reason
	case *packets.Disconnect:
		if t.version != packets.V5 {
			t.Fatalf("DISCONNECT from the server, which %v does not have", t.version)
		}
		code = p.Reason
	default:
		t.Fatalf("got %v; want the end of the connection", p.Type())
	}
	if !slices.Contains(codes, code) {
		t.Fatalf("%v with 0x%02X; want one of % x", p.Type(), byte(code), codes)
	}
	c.ExpectClosed()
	t.Saw("%v 0x%02X and a close", p.Type(), byte(code))
}
