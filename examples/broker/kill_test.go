//go:build unix

package main_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// In CI the rounds are over soon; -short leaves it at the fewest.
const (
	killRounds = 30
	killTime   = 40 * time.Second
)

// victim is a broker that is killed and started again on the same directory.
type victim struct {
	t       *testing.T
	args    []string
	process *process
	address atomic.Pointer[string] // nil while it is down
}

func (v *victim) start() {
	v.process = start(v.t, v.args...)
	address := v.process.said(fmt.Sprintf(listening, "tcp"))
	v.address.Store(&address)
}

func (v *victim) kill() {
	v.address.Store(nil)
	require.NoError(v.t, v.process.cmd.Process.Kill())
	_ = v.process.cmd.Wait()
}

func (v *victim) dial() (net.Conn, error) {
	address := v.address.Load()
	if address == nil {
		return nil, errors.New("the broker is down")
	}
	return net.DialTimeout("tcp", *address, time.Second)
}

// die connects a device with a will, and reports whether the broker has taken it.
func (v *victim) die(round int) (net.Conn, bool) {
	conn, err := v.dial()
	if err != nil {
		return nil, false
	}
	p := brokertest.Durable(fmt.Sprintf("device %d", round))
	p.HasWill = true
	p.Will = packets.Will{Topic: []byte(willOf(round)), Payload: []byte("1"), QoS: packets.ExactlyOnce, DelayInterval: uint32(round % 2)}
	p.Version, p.ReceiveMaximum = packets.V5, 10
	b, err := p.AppendTo(nil, packets.V5)
	require.NoError(v.t, err)
	if _, err := conn.Write(b); err != nil {
		return conn, false
	}
	answer := make([]byte, 4)
	require.NoError(v.t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	n, err := conn.Read(answer)
	return conn, err == nil && n == 4 && answer[0] == 0x20 && answer[3] == 0
}

func willOf(round int) string { return fmt.Sprintf("will/%d", round) }

// TestKilledBrokerKeepsItsWord kills a real process at random moments.
func TestKilledBrokerKeepsItsWord(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	config := write(t, `{"listeners": {"tcp": ["127.0.0.1:0"], "ws": []}, "limits": {"queueMessages": -1, "queueBytes": -1}}`)
	v := &victim{t: t, args: []string{"-config", config, "-data", dir}}
	v.start()
	l := brokertest.NewLedger(v.dial)
	defer l.Close()
	topics := []string{"t/1", "t/2", "t/kept"}
	all := []*brokertest.Subscriber{
		l.Subscriber("all with QoS 2", "t/#", packets.ExactlyOnce),
		l.Subscriber("all with QoS 1", "t/#", packets.AtLeastOnce),
	}
	wills := l.Subscriber("of wills", "will/#", packets.ExactlyOnce)
	for _, s := range append(all, wills) {
		<-s.Subscribed()
	}
	var publishers []*brokertest.Publisher
	for i, topic := range topics {
		publishers = append(publishers, l.Publisher(topic, packets.QoS(min(i+1, 2)), i == 2, 20, 0))
	}

	devices := make(map[int]bool)
	begun, rounds := time.Now(), 0
	for ; rounds < killRounds || time.Since(begun) < killTime && !testing.Short(); rounds++ {
		time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond)
		conn, accepted := v.die(rounds)
		if accepted {
			devices[rounds] = true
		}
		time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond)
		if rounds%3 == 0 {
			all[rounds/3%2].Drop()
		}
		if conn != nil && rounds%4 == 0 {
			conn.Close() // the broker may or may not see it in time
		}
		v.kill()
		if conn != nil {
			conn.Close()
		}
		v.start()
		require.Empty(t, l.Broken(), "after round %d", rounds)
	}
	for _, p := range publishers {
		p.Finish()
	}
	for i, p := range publishers {
		patient(t, topics[i]+" is acknowledged and delivered", func() bool {
			return p.Acknowledged() == p.Sent() && all[0].Last(topics[i]) == p.Sent() && all[1].Last(topics[i]) == p.Sent()
		})
	}
	for round := range devices {
		patient(t, willOf(round), func() bool { return wills.Last(willOf(round)) == 1 })
	}
	require.NotEmpty(t, devices)
	require.Equal(t, fmt.Sprint(publishers[2].Sent()), v.retained("t/kept"))
	l.Close()
	require.Empty(t, l.Broken())
	t.Logf("%d rounds; %d messages with QoS 1, %d with QoS 2; %d came again with QoS 1; %d wills", rounds,
		publishers[0].Sent(), publishers[1].Sent()+publishers[2].Sent(), all[0].Repeated()+all[1].Repeated(), len(devices))

	v.kill()
	out, err := exec.Command(binary, "check", dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "records can be read")
}

// retained returns the payload of a retained message.
func (v *victim) retained(topic string) string {
	conn, err := v.dial()
	require.NoError(v.t, err)
	c := brokertest.NewClient(v.t, conn, packets.V5)
	c.Send(&packets.Connect{Version: packets.V5, ClientID: []byte("reader"), CleanStart: true, ReceiveMaximum: 10})
	brokertest.Expect[*packets.Connack](c)
	c.Subscribe(packets.AtMostOnce, topic)
	return string(brokertest.Expect[*packets.Publish](c).Payload)
}

// patient waits until ok reports true.
func patient(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("still not so after a minute: %s", what)
		}
	}
}
