package conformance_test

import (
	"flag"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/packets"
)

var mutationFlag = flag.String("mutation", "", "`NAME` of a mutation that makes petrel a broken broker, in all tests; see MUTATIONS.md")

// mutation is a way for a broker to be broken. It is done to petrel from
// outside: by what changes packets on their way, or by options that are not
// those that the test asked for.
type mutation struct {
	name    string
	broken  string // what a broker that is like this does
	mqtt5   string // the statements that catch it, such as "3.1.2-3 3.1.4-1"
	mqtt311 string

	options func(o *petrel.Options)
	// acts makes what acts on the packets of one test. Nothing that it makes is
	// called twice at the same time.
	acts func() acts
}

// acts are called for each whole packet on its way. They return what goes on in
// its place: nothing, the packet itself, or others.
type acts struct {
	fromClient func(l *link, packet []byte) [][]byte
	fromBroker func(l *link, packet []byte) [][]byte
	// closing is called when the broker has closed a connection, and returns
	// whether the client is to know.
	closing func(l *link) bool
	// gone is called when the client has closed it.
	gone func(l *link)
}

// tampered is what stands between the clients of one test and their broker.
type tampered struct {
	t        *testing.T
	version  packets.Version
	mutation *mutation

	mu    sync.Mutex // held while acts are called
	acts  acts
	links []*link
	extra []extra // what they have sent besides
}

// extra is a packet that nobody sent.
type extra struct {
	to     end
	packet []byte
}

// newTampered returns nil without -mutation.
func newTampered(t *testing.T, v packets.Version) *tampered {
	if *mutationFlag == "" {
		return nil
	}
	i := slices.IndexFunc(mutations, func(m mutation) bool { return m.name == *mutationFlag })
	if i < 0 {
		t.Fatalf("there is no mutation %q", *mutationFlag)
	}
	m := &tampered{t: t, version: v, mutation: &mutations[i]}
	if m.mutation.acts != nil {
		m.acts = m.mutation.acts()
	}
	return m
}

// setUp changes the options of a broker that is to be started.
func (m *tampered) setUp(o *petrel.Options) {
	o.Logger = slog.New(slog.DiscardHandler) // tests are to fail, which needs no explanation
	if m.mutation.options != nil {
		m.mutation.options(o)
	}
}

// link is one connection, seen from its middle.
type link struct {
	*tampered
	client, broker end

	connect  *packets.Connect // as the client sent it, nil before it has
	connects int              // how many CONNECT packets came, sound or not
	connack  *packets.Connack // nil before the broker has accepted the client
	behind   []byte           // what came in one piece with the packet, from the client
	isClosed bool             // the client has closed it
	isOver   bool             // the broker has
}

// end is one of the two connections that a link is made of.
type end struct {
	net.Conn
	mu *sync.Mutex // held while a packet is written
}

func (e end) write(packet []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.Write(packet) // fails if it is closed, which its reader sees too
}

// between returns the connection for the client, where conn is that to the broker.
func (m *tampered) between(conn net.Conn) net.Conn {
	forClient, client := net.Pipe()
	l := &link{tampered: m, client: end{client, new(sync.Mutex)}, broker: end{conn, new(sync.Mutex)}}
	m.mu.Lock()
	m.links = append(m.links, l)
	m.mu.Unlock()
	go l.upstream()
	go l.downstream()
	m.t.Cleanup(func() {
		client.Close()
		conn.Close()
	})
	return forClient
}

func (l *link) upstream() {
	err := l.pump(l.client, l.broker, func(packet, behind []byte) [][]byte {
		l.behind = behind
		if packets.Type(packet[0]>>4) == packets.TypeConnect {
			l.connects++
		}
		if p, ok := decode[*packets.Connect](l, packet); ok && l.connect == nil {
			l.connect = p
		}
		return call(l.acts.fromClient, l, packet)
	})
	l.act(func() {
		if l.isClosed = err == io.EOF; l.isClosed && l.acts.gone != nil {
			l.acts.gone(l)
		}
	})
	l.broker.Close()
}

func (l *link) downstream() {
	l.pump(l.broker, l.client, func(packet, _ []byte) [][]byte {
		if p, ok := decode[*packets.Connack](l, packet); ok && p.Reason == packets.Success {
			l.connack = p
		}
		return call(l.acts.fromBroker, l, packet)
	})
	l.act(func() {
		l.isOver = true
		if l.acts.closing != nil && !l.acts.closing(l) {
			return
		}
		l.hangUp()
	})
}

// act calls f, and sends what it has sent.
func (m *tampered) act(f func()) {
	m.mu.Lock()
	f()
	list := m.extra
	m.extra = nil
	m.mu.Unlock()
	for _, x := range list {
		if x.packet == nil {
			x.to.Close()
			continue
		}
		x.to.write(x.packet)
	}
}

func call(act func(l *link, packet []byte) [][]byte, l *link, packet []byte) [][]byte {
	if act == nil {
		return [][]byte{packet}
	}
	return act(l, packet)
}

// pump brings packets from one end to the other, until the one is closed. What
// is no packet, and what comes behind it, is passed on as it is.
func (l *link) pump(from, to end, act func(packet, behind []byte) [][]byte) error {
	var buf []byte
	chunk := make([]byte, 64<<10)
	broken := false
	for {
		n, err := from.Read(chunk)
		buf = append(buf, chunk[:n]...)
		for !broken {
			h, start, bad := packets.DecodeHeader(buf)
			if broken = bad != nil; broken || start == 0 || len(buf) < start+h.Remaining {
				break
			}
			size := start + h.Remaining
			packet := slices.Clone(buf[:size])
			buf = buf[size:]
			l.act(func() {
				for _, b := range act(packet, buf) {
					l.extra = append(l.extra, extra{to, b})
				}
			})
		}
		if (broken || err != nil) && len(buf) > 0 {
			to.write(buf)
			buf = nil
		}
		if err != nil {
			return err
		}
	}
}

// decode returns the packet if it is of type P and sound.
func decode[P packets.Packet](l *link, b []byte) (P, bool) {
	var none P
	h, n, err := packets.DecodeHeader(b)
	if err != nil || n == 0 {
		return none, false
	}
	p, ok := packets.New(h.Type).(P)
	if !ok || p.Decode(h.Flags, slices.Clone(b[n:]), l.version) != nil {
		return none, false
	}
	return p, true
}

// encode is the opposite. A mutation makes only packets that can be encoded.
func encode(l *link, p packets.Packet) []byte {
	b, err := p.AppendTo(nil, l.version)
	if err != nil {
		panic(err)
	}
	return b
}

// edit is an act on sound packets of one type, from CONNECT on: they go on, as
// they have been changed, if f returns true.
func edit[P packets.Packet](f func(l *link, p P) bool) func(l *link, packet []byte) [][]byte {
	return func(l *link, packet []byte) [][]byte {
		p, ok := decode[P](l, packet)
		switch {
		case !ok || l.connect == nil:
			return [][]byte{packet}
		case !f(l, p):
			return nil
		}
		return [][]byte{encode(l, p)}
	}
}

// rewrite is an act on packets of a type, sound or not, byte by byte.
func rewrite(t packets.Type, f func(l *link, b []byte) []byte) func(l *link, packet []byte) [][]byte {
	return func(l *link, packet []byte) [][]byte {
		if packets.Type(packet[0]>>4) == t {
			packet = f(l, packet)
		}
		return [][]byte{packet}
	}
}

// only limits an act to one version of MQTT.
func only(v packets.Version, act func(l *link, packet []byte) [][]byte) func(l *link, packet []byte) [][]byte {
	return func(l *link, packet []byte) [][]byte {
		if l.version != v {
			return [][]byte{packet}
		}
		return act(l, packet)
	}
}

// toClient and toBroker send a packet that nobody sent, before what the act
// returns. The act that calls them does not wait for it.
func (l *link) toClient(p packets.Packet) { l.extra = append(l.extra, extra{l.client, encode(l, p)}) }
func (l *link) toBroker(p packets.Packet) { l.extra = append(l.extra, extra{l.broker, encode(l, p)}) }

// hangUp closes the connection to the client.
func (l *link) hangUp() { l.extra = append(l.extra, extra{to: l.client}) }

// after calls f in a while, as an act is called.
func (l *link) after(d time.Duration, f func()) { time.AfterFunc(d, func() { l.act(f) }) }
