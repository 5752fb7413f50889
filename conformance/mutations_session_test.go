package conformance_test

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/packets"
)

// Mutations of sessions, takeover, keep alive and wills.

// sameClient returns the other open connection with the client identifier.
func (l *link) sameClient() *link {
	for _, other := range l.links {
		if other != l && !other.isClosed && !other.isOver && other.connect != nil && string(other.connect.ClientID) == string(l.connect.ClientID) {
			return other
		}
	}
	return nil
}

var mutationsOfSessions = []mutation{
	{
		name: "present-for-a-new-session", broken: "Session Present is 1 where there was no session.",
		mqtt5: "3.1.2-6 3.1.4-4 3.2.2-3 4.1.0-2", mqtt311: "3.1.2-6 3.1.4-3 3.2.2-3",
		acts: down(connack(func(l *link, p *packets.Connack) {
			p.SessionPresent = p.SessionPresent || len(l.connect.ClientID) > 0 && !l.connect.CleanStart
		})),
	},
	{
		name: "present-with-clean-start", broken: "Session Present is 1 where Clean Start has discarded a session.",
		mqtt5: "3.1.2-4 3.1.4-4 3.2.2-2", mqtt311: "3.1.2-6 3.1.4-3 3.2.2-1",
		acts: func() acts {
			known := map[string]bool{}
			return acts{fromBroker: connack(func(l *link, p *packets.Connack) {
				c := l.connect
				p.SessionPresent = p.SessionPresent || c.CleanStart && known[string(c.ClientID)]
				known[string(c.ClientID)] = !c.CleanStart && (c.SessionExpiryInterval > 0 || l.version != packets.V5)
			})}
		},
	},
	{
		name: "present-but-once", broken: "Session Present is 0 when a session is resumed for the second time.",
		mqtt5: "3.2.2-3", mqtt311: "3.2.2-2",
		acts: func() acts {
			times := map[string]int{}
			return acts{fromBroker: connack(func(l *link, p *packets.Connack) {
				times[string(l.connect.ClientID)]++
				p.SessionPresent = p.SessionPresent && times[string(l.connect.ClientID)] != 3
			})}
		},
	},
	{
		name: "present-in-a-refusal", broken: "Session Present is 1 where a client is refused that has a session.",
		mqtt5: "3.2.2-6", mqtt311: "3.2.2-4",
		acts: func() acts {
			known := map[string]bool{}
			return acts{fromBroker: rewrite(packets.TypeConnack, func(l *link, b []byte) []byte {
				if l.connect != nil && b[3] == 0 {
					known[string(l.connect.ClientID)] = true
				} else if l.connect != nil && known[string(l.connect.ClientID)] {
					b[2] = 1
				}
				return b
			})}
		},
	},
	{
		name: "clean-start-keeps-subscriptions", broken: "Clean Start does not end the subscriptions of the session before.",
		mqtt5: "3.1.2-4",
		acts: func() acts {
			return acts{
				fromClient: only(packets.V5, connect(func(_ *link, p *packets.Connect) {
					p.CleanStart = p.CleanStart && len(p.ClientID) == 0
				})),
				fromBroker: only(packets.V5, connack(func(l *link, p *packets.Connack) {
					p.SessionPresent = p.SessionPresent && !l.connect.CleanStart
				})),
			}
		},
	},
	{
		name: "clean-session-lives-on", broken: "A session that began with CleanSession 1 outlives its connection.",
		mqtt311: "3.1.2-6 3.1.4-3",
		acts: func() acts {
			ended := map[string]bool{}
			return acts{fromBroker: only(packets.V311, connack(func(l *link, p *packets.Connack) {
				id := string(l.connect.ClientID)
				p.SessionPresent = p.SessionPresent || ended[id] && !l.connect.CleanStart
				ended[id] = l.connect.CleanStart
			}))}
		},
	},
	{
		name: "subscriptions-of-a-session", broken: "A resumed session has its messages, but its subscriptions no more.",
		mqtt5: "3.1.2-5 3.3.1-10", mqtt311: "3.1.2-4",
		acts: func() acts {
			filters := map[string]packets.Filters{}
			const ours = 0xFFF0
			return acts{
				fromClient: edit(func(l *link, p *packets.Subscribe) bool {
					id := string(l.connect.ClientID)
					for s := range p.Subscriptions.All() {
						filters[id] = filters[id].Append(string(s.Filter))
					}
					return true
				}),
				fromBroker: both(connack(func(l *link, p *packets.Connack) {
					list := filters[string(l.connect.ClientID)]
					if p.SessionPresent && len(list) > 0 && l.connect.SessionExpiryInterval != 1 {
						l.toBroker(&packets.Unsubscribe{PacketID: ours, Filters: list})
					}
				}), edit(func(_ *link, p *packets.Unsuback) bool { return p.PacketID != ours })),
			}
		},
	},
	{
		name: "session-after-an-error", broken: "The session ends when the client breaks the protocol.",
		mqtt5: "3.1.2-23",
		acts: func() acts {
			left, ended := map[*link]bool{}, map[string]bool{}
			return acts{
				fromClient: both(connect(func(l *link, p *packets.Connect) {
					p.CleanStart = p.CleanStart || ended[string(p.ClientID)]
				}), edit(func(l *link, _ *packets.Disconnect) bool {
					left[l] = true
					return true
				})),
				closing: func(l *link) bool {
					if l.connect != nil && !l.isClosed && !left[l] && l.sameClient() == nil {
						ended[string(l.connect.ClientID)] = true
					}
					return true
				},
			}
		},
	},
	{
		name: "endless-session", broken: "A session does not end with its Session Expiry Interval.",
		mqtt5: "4.1.0-2",
		acts: up(connect(func(_ *link, p *packets.Connect) {
			if p.SessionExpiryInterval > 0 {
				p.SessionExpiryInterval += 1000
			}
		})),
	},
	{
		name: "forgetful", broken: "A subscription with QoS 1 is forgotten after a second, while the client is connected.",
		mqtt5: "4.1.0-1", mqtt311: "4.1.0-2",
		acts: func() acts {
			const ours = 0xFFF0
			return acts{
				fromClient: edit(func(l *link, p *packets.Subscribe) bool {
					for s := range p.Subscriptions.All() {
						if s.QoS == packets.AtLeastOnce {
							l.after(time.Second-time.Millisecond, func() {
								l.toBroker(&packets.Unsubscribe{PacketID: ours, Filters: packets.Filters(nil).Append(string(s.Filter))})
							})
						}
					}
					return true
				}),
				fromBroker: edit(func(_ *link, p *packets.Unsuback) bool { return p.PacketID != ours }),
			}
		},
	},
	{
		name: "two-connections-of-one-client", broken: "The old connection stays open when another one takes its session over.",
		mqtt5: "3.1.4-3 3.14.2-2 3.14.4-2", mqtt311: "3.1.4-2",
		acts: func() acts {
			stuck := map[*link]bool{}
			return acts{
				fromClient: connect(func(l *link, _ *packets.Connect) {
					if old := l.sameClient(); old != nil && len(l.connect.ClientID) > 0 {
						stuck[old] = true
					}
				}),
				fromBroker: func(l *link, b []byte) [][]byte {
					if stuck[l] {
						return nil
					}
					return keep(b)
				},
				closing: func(l *link) bool { return !stuck[l] },
			}
		},
	},
	{
		name: "open-after-disconnect", broken: "The server leaves the connection open after its DISCONNECT 0x8E.",
		mqtt5: "3.1.4-3 3.14.4-2",
		acts: func() acts {
			told := map[*link]bool{}
			return acts{
				fromBroker: edit(func(l *link, p *packets.Disconnect) bool {
					told[l] = p.Reason == packets.SessionTakenOver
					return true
				}),
				closing: func(l *link) bool { return !told[l] },
			}
		},
	},
	{
		name: "disconnect-to-an-old-client", broken: "A 3.1.1 client whose session is taken over gets a DISCONNECT.",
		mqtt311: "3.1.4-2",
		acts: func() acts {
			return acts{closing: func(l *link) bool {
				if l.version == packets.V311 && l.connack != nil && l.sameClient() != nil {
					l.toClient(&packets.Disconnect{})
				}
				return true
			}}
		},
	},
	{
		name: "keep-alive-forgotten", broken: "The Keep Alive of CONNECT is not enforced.",
		mqtt5: "3.1.2-22 3.2.2-22", mqtt311: "3.1.2-24",
		acts: up(connect(func(_ *link, p *packets.Connect) {
			if p.KeepAlive < 60 {
				p.KeepAlive = 0
			}
		})),
	},
	{
		name: "keep-alive-too-short", broken: "A client is cut off after its Keep Alive, not after one and a half of it.",
		mqtt5: "3.1.2-22 3.2.2-22",
		acts: up(only(packets.V5, connect(func(_ *link, p *packets.Connect) {
			if p.KeepAlive < 60 {
				p.KeepAlive = 1
			}
		}))),
	},
	{
		name: "server-keep-alive-forgotten", broken: "The Server Keep Alive that CONNACK has is not enforced.",
		mqtt5:   "3.1.2-22",
		options: func(o *petrel.Options) { o.MaximumKeepAlive = 0 },
		acts: down(only(packets.V5, connack(func(l *link, p *packets.Connack) {
			p.HasServerKeepAlive, p.ServerKeepAlive = true, l.connect.KeepAlive
		}))),
	},
}

// isWill reports whether a message is the will of a client that has gone.
func (l *link) isWill(p *packets.Publish) bool {
	return slices.ContainsFunc(l.links, func(of *link) bool {
		return of.connect != nil && of.connect.HasWill && string(of.connect.Will.Topic) == string(p.Topic) &&
			string(of.connect.Will.Payload) == string(p.Payload)
	})
}

var mutationsOfWills = []mutation{
	{
		name: "no-will-after-an-error", broken: "No will is published when the client has broken the protocol.",
		mqtt5: "3.1.2-8",
		acts: up(func(_ *link, b []byte) [][]byte {
			if bytes.Equal(b, []byte{0xF0, 0}) {
				return [][]byte{{0xE0, 0}}
			}
			return keep(b)
		}),
	},
	{
		name: "will-after-disconnect", broken: "A DISCONNECT counts for nothing: the will is published.",
		mqtt5: "3.1.2-8 3.14.4-3", mqtt311: "3.1.2-12 3.14.4-3",
		acts: up(edit(func(l *link, p *packets.Disconnect) bool {
			if l.connect == nil || !l.connect.HasWill || p.Reason != packets.NormalDisconnection {
				return true
			}
			l.extra = append(l.extra, extra{to: l.broker})
			return false
		})),
	},
	{
		name: "no-will-though-asked", broken: "A DISCONNECT with the code 0x04 discards the will.",
		mqtt5: "3.1.2-8 3.14.4-3",
		acts: up(edit(func(_ *link, p *packets.Disconnect) bool {
			if p.Reason == packets.DisconnectWithWill {
				p.Reason = packets.NormalDisconnection
			}
			return true
		})),
	},
	{
		name: "no-will-after-another-reason", broken: "A DISCONNECT with a code of an error discards the will.",
		mqtt5: "3.14.4-3",
		acts: up(edit(func(_ *link, p *packets.Disconnect) bool {
			if p.Reason.IsError() {
				p.Reason = packets.NormalDisconnection
			}
			return true
		})),
	},
	{
		name: "unknown-reason-of-disconnect", broken: "A DISCONNECT with a code that there is not is a normal one.",
		mqtt5: "3.14.2-1",
		acts:  up(replace(packets.TypeDisconnect, "\x7F", "\x00")),
	},
	{
		name: "will-twice", broken: "A will is published twice.",
		mqtt5: "3.1.2-8 3.1.2-10 3.14.4-3", mqtt311: "3.1.2-8 3.1.2-10 3.1.2-12 3.14.4-3",
		acts: down(edit(func(l *link, p *packets.Publish) bool {
			if l.isWill(p) {
				l.toClient(p)
			}
			return true
		})),
	},
	{
		name: "no-will-of-displaced", broken: "A connection that is taken over leaves no will.",
		mqtt311: "3.1.4-2",
		acts: down(only(packets.V311, edit(func(l *link, p *packets.Publish) bool {
			return !slices.ContainsFunc(l.links, func(of *link) bool {
				return of.connect != nil && of.connect.HasWill && string(of.connect.Will.Topic) == string(p.Topic) && of.sameClient() != nil
			})
		}))),
	},
	{
		name: "will-retained", broken: "Every will is retained.",
		mqtt5: "3.1.2-14", mqtt311: "3.1.2-16",
		acts: up(connect(func(_ *link, p *packets.Connect) { p.Will.Retain = true })),
	},
	{
		name: "will-not-retained", broken: "No will is retained.",
		mqtt5: "3.1.2-15 3.2.2-13", mqtt311: "3.1.2-17",
		acts: up(connect(func(_ *link, p *packets.Connect) { p.Will.Retain = false })),
	},
	{
		name: "will-without-delay", broken: "A will is published at once, whatever its Will Delay Interval.",
		mqtt5: "3.1.3-9",
		acts:  up(connect(func(_ *link, p *packets.Connect) { p.Will.DelayInterval = 0 })),
	},
	{
		name: "user-properties-of-will", broken: "The User Properties of a will are sorted.",
		mqtt5: "3.1.3-10",
		acts: up(connect(func(_ *link, p *packets.Connect) {
			pairs := userProperties(&packets.Publish{Properties: p.Will.Properties})
			slices.Sort(pairs)
			p.Will.Properties = nil
			for _, pair := range pairs {
				name, value, _ := strings.Cut(pair, "=")
				p.Will.Properties = p.Will.Properties.AppendUserProperty(name, value)
			}
		})),
	},
}
