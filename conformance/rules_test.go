package conformance_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/conformance"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// rules are the tests of the rules without a number, and of the traps. The files
// rules_*_test.go have one for each row of rules.tsv.
var rules []statementTest

// rule adds a test of a rule. It is run in each version that has the rule.
func rule(id, name string, run func(t *T)) {
	rules = append(rules, statementTest{id: id, name: name, run: run})
}

// timedRule is rule for a test that lets time pass.
func timedRule(id, name string, run func(t *T)) {
	rules = append(rules, statementTest{id: id, name: name, needs: passingTime, run: run})
}

// ruleBytes adds a test that sends bytes on a connection that stands, and wants
// it closed.
func ruleBytes(id, name string, b []byte, codes ...packets.ReasonCode) {
	rule(id, name, func(t *T) {
		c := t.Client()
		c.SendRaw(b)
		t.Refused(c, codes...)
	})
}

func mqtt31(id, name string, run func(t *T)) {
	register(packets.V31, statementTest{id: id, name: name, run: run})
}

func TestMQTT31(t *testing.T) { run(t, packets.V31) }

func TestRules(t *testing.T) {
	versions := make(map[string][]packets.Version) // of each rule
	for _, standard := range conformance.Standards() {
		if standard.Suite != "TestRules" {
			continue
		}
		for _, s := range standard.Statements {
			for _, v := range []packets.Version{packets.V31, packets.V311, packets.V5} {
				if strings.Contains(" "+s.Applies+" ", " "+v.String()+" ") {
					versions[s.ID] = append(versions[s.ID], v)
				}
			}
		}
	}
	for _, r := range rules {
		for _, v := range versions[r.id] {
			t.Run(strings.TrimSpace(fmt.Sprint(r.id, " ", v, " ", r.name)), func(t *testing.T) { r.start(t, v) })
		}
	}
}

// as is the same test in another version, against the same broker.
func (t *T) as(v packets.Version) *T {
	if t.dials == nil && *targetFlag == "" {
		t.With(petrel.Options{})
	}
	other := *t
	other.version = v
	return &other
}

// among subscribes a client to filters that match messages of others, which
// may come before the SUBACK.
func among(t *T, c *brokertest.Client, filters ...string) {
	t.Helper()
	var subs packets.Subscriptions
	for _, f := range filters {
		subs = subs.Append(subscription(f, 0))
	}
	c.Send(&packets.Subscribe{PacketID: c.ID(), Subscriptions: subs})
	for {
		switch p := c.Receive().(type) {
		case *packets.Publish:
		case *packets.Suback:
			if !slices.Equal(p.Reasons, make([]packets.ReasonCode, len(filters))) {
				t.Fatalf("SUBACK with %v", p.Reasons)
			}
			return
		default:
			t.Fatalf("got %v; want SUBACK", p.Type())
		}
	}
}

// until collects the messages that have come for a client up to now, like
// ExpectNothing that wants something.
func until(c *brokertest.Client) (list []*packets.Publish) {
	c.Send(&packets.Pingreq{})
	for {
		p, ok := c.Receive().(*packets.Publish)
		if !ok {
			return list
		}
		list = append(list, p)
	}
}
