package brokertest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/petrelmq/petrel/packets"
)

// Killed kills a broker at random moments, and holds it to its word: no
// acknowledged message is lost, none of QoS 2 comes twice, the order is kept, and
// wills and retained messages are what they have to be.
type Killed struct {
	// Start starts a broker, each time on the same data, and returns the address of
	// a TCP listener that is open and what kills the broker.
	Start func() (address string, kill func())
	// Rounds is how often it is killed at least, AtLeast for how long.
	Rounds  int
	AtLeast time.Duration
	// Behind is how many messages of a topic wait at least for a subscriber that stays
	// away, before the broker is killed. 0 means that nobody stays away.
	Behind int

	t       testing.TB
	ledger  *Ledger
	address atomic.Pointer[string] // nil while it is down
	kill    func()
	all     []*Subscriber
	first   *Publisher   // of t/1
	devices map[int]bool // by round: whose will has to come
}

// Run goes through all rounds and leaves the broker killed.
func (k *Killed) Run(t testing.TB) {
	t.Helper()
	k.t, k.devices = t, make(map[int]bool)
	k.start()
	l := NewLedger(k.dial)
	k.ledger = l
	defer l.Close()
	topics := []string{"t/1", "t/2", "t/kept"}
	k.all = []*Subscriber{
		l.Subscriber("all with QoS 2", "t/#", packets.ExactlyOnce),
		l.Subscriber("all with QoS 1", "t/#", packets.AtLeastOnce),
	}
	wills := l.Subscriber("of wills", "will/#", packets.ExactlyOnce)
	for _, s := range append(k.all, wills) {
		<-s.Subscribed()
	}
	var publishers []*Publisher
	for i, topic := range topics {
		publishers = append(publishers, l.Publisher(topic, packets.QoS(min(i+1, 2)), i == 2, 20, 0))
	}
	k.first = publishers[0]
	begun, rounds := time.Now(), 0
	for ; rounds < k.Rounds || time.Since(begun) < k.AtLeast; rounds++ {
		k.round(rounds)
	}
	for _, p := range publishers {
		p.Finish()
	}
	for i, p := range publishers {
		Eventually(t, topics[i]+" is acknowledged and delivered", func() bool {
			return p.Acknowledged() == p.Sent() && k.all[0].Last(topics[i]) == p.Sent() && k.all[1].Last(topics[i]) == p.Sent()
		})
	}
	for round := range k.devices {
		Eventually(t, willOf(round), func() bool { return wills.Last(willOf(round)) == 1 })
	}
	if len(k.devices) == 0 {
		t.Error("there were no wills")
	}
	if got, want := k.retained("t/kept"), fmt.Sprint(publishers[2].Sent()); got != want {
		t.Errorf("the retained message is %s; want %s", got, want)
	}
	l.Close()
	k.sound()
	t.Logf("%d rounds; %d messages with QoS 1, %d with QoS 2; %d came again with QoS 1; %d wills", rounds,
		publishers[0].Sent(), publishers[1].Sent()+publishers[2].Sent(), k.all[0].Repeated()+k.all[1].Repeated(), len(k.devices))
	k.kill()
}

// round kills the broker once, at a random moment.
func (k *Killed) round(n int) {
	if k.Behind > 0 {
		defer k.fallBehind(n)()
	}
	time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond)
	conn, accepted := k.die(n)
	if accepted {
		k.devices[n] = true
	}
	time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond)
	if n%3 == 0 {
		k.all[n/3%2].Drop()
	}
	if conn != nil && n%4 == 0 {
		conn.Close() // the broker may or may not see it in time
	}
	k.address.Store(nil)
	k.kill()
	if conn != nil {
		conn.Close()
	}
	k.start()
	k.sound()
}

// fallBehind lets a subscriber stay away until much waits for it. In every other pair of
// rounds it comes back at once, so that the broker is killed while it catches up, and
// otherwise when the returned function is called.
func (k *Killed) fallBehind(n int) (comeBack func()) {
	s := k.all[n%2]
	comeBack = s.StayAway()
	Eventually(k.t, "much waits for who stays away", func() bool { return k.first.Acknowledged()-s.Last("t/1") >= k.Behind })
	if n/2%2 == 0 {
		comeBack()
	}
	return comeBack
}

func (k *Killed) start() {
	address, kill := k.Start()
	k.kill = kill
	k.address.Store(&address)
}

// sound fails the test if the broker has broken its word.
func (k *Killed) sound() {
	k.t.Helper()
	if broken := k.ledger.Broken(); len(broken) > 0 {
		k.t.Fatalf("%d promises were broken: %q", len(broken), broken)
	}
}

func (k *Killed) dial() (net.Conn, error) {
	address := k.address.Load()
	if address == nil {
		return nil, errors.New("the broker is down")
	}
	return net.DialTimeout("tcp", *address, time.Second)
}

// die connects a device with a will, and reports whether the broker has taken it.
func (k *Killed) die(round int) (net.Conn, bool) {
	conn, err := k.dial()
	if err != nil {
		return nil, false
	}
	p := Durable(fmt.Sprintf("device %d", round))
	p.HasWill = true
	p.Will = packets.Will{Topic: []byte(willOf(round)), Payload: []byte("1"), QoS: packets.ExactlyOnce, DelayInterval: uint32(round % 2)}
	p.ReceiveMaximum = 10
	b, err := p.AppendTo(nil, packets.V5)
	if err != nil {
		k.t.Fatal(err)
	}
	if _, err := conn.Write(b); err != nil {
		return conn, false
	}
	answer := make([]byte, 4)
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		k.t.Fatal(err)
	}
	n, err := conn.Read(answer)
	return conn, err == nil && n == 4 && answer[0] == 0x20 && answer[3] == 0
}

func willOf(round int) string { return fmt.Sprintf("will/%d", round) }

// retained returns the payload of a retained message.
func (k *Killed) retained(topic string) string {
	conn, err := k.dial()
	if err != nil {
		k.t.Fatal(err)
	}
	c := NewClient(k.t, conn, packets.V5)
	p := ID("reader")
	p.ReceiveMaximum = 10
	c.Send(&p)
	Expect[*packets.Connack](c)
	c.Subscribe(packets.AtMostOnce, topic)
	return string(Expect[*packets.Publish](c).Payload)
}

// Eventually waits until ok reports true, and fails the test if it does not
// within a minute.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("still not so after a minute: %s", what)
		}
	}
}
