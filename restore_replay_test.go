package petrel_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// retain publishes retained messages r/0, r/1 and so on, whose payload is their number.
func retain(b *brokertest.Broker, qos ...packets.QoS) {
	c := b.Connect(brokertest.ID("retainer"))
	for i, q := range qos {
		c.PublishWith(packets.Publish{Topic: fmt.Appendf(nil, "r/%d", i), Payload: fmt.Append(nil, i), QoS: max(q, 1), Retain: true})
	}
}

// finish acknowledges messages that have come, and all that come then, which it returns.
func finish(t *testing.T, c *brokertest.Client, open ...*packets.Publish) (list []*packets.Publish) {
	acknowledge := func(p *packets.Publish) {
		if p.QoS == packets.ExactlyOnce {
			c.Send(&packets.Pubrec{PacketID: p.PacketID})
		} else {
			c.Send(&packets.Puback{PacketID: p.PacketID})
		}
	}
	for _, p := range open {
		acknowledge(p)
	}
	for more := true; more; {
		more = false
		synctest.Wait() // for what is read from the store
		c.Send(&packets.Pingreq{})
		for pinged := false; !pinged; {
			switch p := c.Receive().(type) {
			case *packets.Publish:
				list = append(list, p)
				acknowledge(p)
				more = true
			case *packets.Pubrel:
				c.Send(&packets.Pubcomp{PacketID: p.PacketID})
				more = true
			case *packets.Pingresp:
				pinged = true
			default:
				t.Fatalf("%s: got %v", c, p.Type())
			}
		}
	}
	return list
}

func TestRestoredSubscriptionGetsTheRetainedMessagesItIsOwed(t *testing.T) {
	for _, qos := range []packets.QoS{1, 2} {
		t.Run(qos.String(), func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				b := m.start(discreet)
				retain(b, qos, qos, qos, qos, qos, qos)
				c := b.Connect(window(2, brokertest.Durable("subscriber")))
				c.Subscribe(qos, "r/#")
				done, next := c.ExpectPublish("r/0", "0"), c.ExpectPublish("r/1", "1")
				c.Accept(done)
				sent := []*packets.Publish{next, c.ExpectPublish("r/2", "2")}
				synctest.Wait() // until the end of r/0 is in the store

				b = m.restart(discreet)
				c = b.Connect(window(2, brokertest.Durable("subscriber")))
				for i, was := range sent {
					p := c.ExpectPublish(string(was.Topic), fmt.Sprint(i+1))
					require.Equal(t, []any{true, was.PacketID}, []any{p.Dup, p.PacketID})
				}
				c.ExpectNothing()
				rest := finish(t, c, sent...)
				require.Equal(t, []string{"3", "4", "5"}, payloads(rest))
				for _, p := range rest {
					require.Equal(t, []bool{true, false}, []bool{p.Retain, p.Dup})
				}
				synctest.Wait()

				b = m.restart(discreet)
				b.Connect(brokertest.Durable("subscriber")).ExpectNothing()
			})
		})
	}
}

func TestRestoredSubscriptionIsNotOwedWhatCameLater(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		retain(b, 1, 1, 1, 1, 1)
		c := b.Connect(window(1, brokertest.Durable("subscriber")))
		c.Subscribe(packets.AtLeastOnce, "r/#")
		first := c.ExpectPublish("r/0", "0")
		replace := func(topic, payload string) {
			pub := b.Connect(brokertest.ID("publisher"))
			pub.PublishWith(packets.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: 1, Retain: true})
		}
		replace("r/2", "before the crash")
		synctest.Wait()

		b = m.restart(discreet)
		replace("r/3", "after the crash")
		c = b.Connect(brokertest.Durable("subscriber"))
		require.Equal(t, first.PacketID, c.ExpectPublish("r/0", "0").PacketID)
		require.False(t, c.ExpectPublish("r/2", "before the crash").Retain, "delivered like any message")
		require.False(t, c.ExpectPublish("r/3", "after the crash").Retain)
		c.ExpectPublish("r/1", "1")
		c.ExpectPublish("r/4", "4")
		c.ExpectNothing()
	})
}

// A subscription knows of a number that no message has any more. It is not given again.
func TestRestoredNumbersOfRetainedMessagesGoOn(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		retain(b, 1, 1, 1)
		pub := b.Connect(brokertest.ID("publisher"))
		pub.PublishWith(packets.Publish{Topic: []byte("r/2"), QoS: 1, Retain: true}) // which removes it
		c := b.Connect(window(1, brokertest.Durable("subscriber")))
		c.Subscribe(packets.AtLeastOnce, "r/#")
		c.ExpectPublish("r/0", "0")
		synctest.Wait()

		b = m.restart(discreet)
		pub = b.Connect(brokertest.ID("publisher"))
		pub.PublishWith(packets.Publish{Topic: []byte("r/1"), Payload: []byte("new"), QoS: 1, Retain: true})
		c = b.Connect(brokertest.Durable("subscriber"))
		c.ExpectPublish("r/0", "0")
		c.ExpectPublish("r/1", "new")
		c.ExpectNothing()
	})
}

func TestRetainedMessagesAreOwedByTheLastSubscription(t *testing.T) {
	for _, tc := range []struct {
		name  string
		again func(c *brokertest.Client)
		want  []string
	}{
		{"that is gone", func(c *brokertest.Client) { c.Unsubscribe("r/#") }, nil},
		{"that wants none of them", subscribeAgain(2), []string{"1", "2"}},
		{"that wants them if it is new", subscribeAgain(1), []string{"1", "2"}},
		{"that wants them", subscribeAgain(0), []string{"0", "1", "2"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				b := m.start(discreet)
				retain(b, 1, 1, 1)
				c := b.Connect(window(1, brokertest.Durable("subscriber")))
				c.Subscribe(packets.AtLeastOnce, "r/#")
				first := c.ExpectPublish("r/0", "0")
				tc.again(c)
				m.restart(discreet)
				c = m.broker.Connect(window(1, brokertest.Durable("subscriber")))
				require.True(t, c.ExpectPublish("r/0", "0").Dup)
				c.Accept(first)
				for _, payload := range tc.want {
					c.Accept(c.ExpectPublish("r/"+payload, payload))
				}
				c.ExpectNothing()
			})
		})
	}
}

// subscribeAgain subscribes to r/# with a Retain Handling.
func subscribeAgain(handling byte) func(*brokertest.Client) {
	return func(c *brokertest.Client) {
		filter := packets.Subscription{Filter: []byte("r/#"), QoS: 1, RetainHandling: handling}
		c.SubscribeWith(packets.Subscribe{Subscriptions: packets.Subscriptions(nil).Append(filter)})
	}
}

// A QoS 0 message leaves no trace in the store, but the end of the replay does.
func TestFinishedReplayDoesNotBeginAnew(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		retain(b, 1, 1)
		c := b.Connect(brokertest.Durable("subscriber"))
		c.Subscribe(packets.AtMostOnce, "r/#")
		c.ExpectPublish("r/0", "0")
		c.ExpectPublish("r/1", "1")
		c.ExpectNothing()
		synctest.Wait()
		b = m.restart(discreet)
		b.Connect(brokertest.Durable("subscriber")).ExpectNothing()
	})
}

// Whatever commit fails, with all that come after it: each retained message comes,
// and one of QoS 2 once.
func TestFaultAtEveryCommitOfAReplay(t *testing.T) {
	qos := []packets.QoS{2, 1, 2, 2, 1, 1, 2, 2}
	for n, done := 1, false; !done; n++ {
		require.Less(t, n, 200)
		t.Run(fmt.Sprint("commit ", n), func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				b := m.start(discreet)
				retain(b, qos...)
				synctest.Wait()
				m.store.FailAt(n, true)
				crash := time.AfterFunc(10*time.Second, m.crash) // if nobody ends the connection before
				r := replayReceiver{t: t, open: make(map[uint16]bool), got: make(map[string]int)}
				r.live(b, len(qos))
				synctest.Wait()
				done = m.store.Commits() < n
				if crash.Stop() {
					m.crash()
				}
				b = m.start(discreet)
				require.True(t, r.live(b, len(qos)))
				for i, q := range qos {
					topic := fmt.Sprint("r/", i)
					require.Positive(t, r.got[topic], topic)
					if q == packets.ExactlyOnce {
						require.Equal(t, 1, r.got[topic], topic)
					}
				}
			})
		})
	}
}

// replayReceiver is a client that knows what it has received.
type replayReceiver struct {
	t    *testing.T
	open map[uint16]bool // identifiers of QoS 2 messages that are not released
	got  map[string]int  // messages by topic
}

// live subscribes and receives until n topics have come and nothing is open, or
// the broker ends the connection, of which it reports false.
func (r *replayReceiver) live(b *brokertest.Broker, n int) bool {
	c := b.Dial(packets.V5)
	p := window(2, brokertest.Durable("subscriber"))
	filter := packets.Subscription{Filter: []byte("r/#"), QoS: 2, RetainHandling: 1}
	c.Send(&p, &packets.Subscribe{PacketID: 1, Subscriptions: packets.Subscriptions(nil).Append(filter)})
	for subscribed := false; !subscribed || len(r.got) < n || len(r.open) > 0; {
		got, ok := c.Next()
		if !ok {
			return false
		}
		switch p := got.(type) {
		case *packets.Connack:
			if p.Reason.IsError() {
				return false
			}
		case *packets.Suback:
			subscribed = true
		case *packets.Publish:
			if !r.open[p.PacketID] {
				r.got[string(p.Topic)]++
			}
			if p.QoS == packets.ExactlyOnce {
				r.open[p.PacketID] = true
				c.Send(&packets.Pubrec{PacketID: p.PacketID})
			} else {
				c.Send(&packets.Puback{PacketID: p.PacketID})
			}
		case *packets.Pubrel:
			delete(r.open, p.PacketID)
			c.Send(&packets.Pubcomp{PacketID: p.PacketID})
		case *packets.Disconnect:
			return false
		}
	}
	return true
}
