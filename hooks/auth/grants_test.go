package auth_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/packets"
)

func TestGrants(t *testing.T) {
	grants, err := auth.NewGrants([]string{"out/%c/#", "user/%u"}, []string{"in/%c/+", "news/#"})
	require.NoError(t, err)
	for _, tt := range []struct {
		id, identity string
		action       petrel.Action
		topic        string
		allowed      bool
		check        bool
	}{
		{"c", "u", petrel.Publish, "out/c/x", true, false},
		{"c", "u", petrel.Publish, "out/d/x", false, false},
		{"c", "u", petrel.Publish, "user/u", true, false},
		{"c", "", petrel.Publish, "user/", false, false},
		{"c", "u", petrel.Publish, "news/x", false, false},
		{"#", "+", petrel.Publish, "user/u", false, false},
		{"c", "u", petrel.Receive, "news/x", true, false},
		{"c", "u", petrel.Receive, "out/c/x", false, false},
		{"c", "u", petrel.Subscribe, "news/+", true, false},
		{"c", "u", petrel.Subscribe, "news/#", true, false},
		{"c", "u", petrel.Subscribe, "in/c/1", true, false},
		{"c", "u", petrel.Subscribe, "in/+/1", true, true},
		{"c", "u", petrel.Subscribe, "#", true, true},
		{"c", "u", petrel.Subscribe, "out/#", false, false},
		{"#", "u", petrel.Subscribe, "in/#", false, false},
	} {
		r := &petrel.AccessRequest{Action: tt.action, Topic: tt.topic}
		err := grants.Decide(tt.id, tt.identity, r)
		name := fmt.Sprintf("%v %s of %q, %q", tt.action, tt.topic, tt.id, tt.identity)
		if tt.allowed {
			assert.NoError(t, err, name)
		} else {
			assert.ErrorIs(t, err, packets.NotAuthorized, name)
		}
		assert.Equal(t, tt.check, r.CheckDeliveries, name)
	}
}

func TestGrantsOfNothing(t *testing.T) {
	none, err := auth.NewGrants(nil, nil)
	require.NoError(t, err)
	for _, g := range []*auth.Grants{none, nil} {
		for _, a := range []petrel.Action{petrel.Publish, petrel.Subscribe, petrel.Receive, 0} {
			assert.ErrorIs(t, g.Decide("c", "u", &petrel.AccessRequest{Action: a, Topic: "t"}), packets.NotAuthorized)
		}
	}
}

func TestGrantsRefuseWhatIsNoFilter(t *testing.T) {
	for _, filter := range []string{"", "a#", "#/a", "a\x00", "$share/g/a", "\xff"} {
		_, err := auth.NewGrants([]string{filter}, nil)
		assert.Error(t, err, filter)
		_, err = auth.NewGrants(nil, []string{"fine", filter})
		assert.Error(t, err, filter)
	}
}

func ExampleNewGrants() {
	grants, err := auth.NewGrants([]string{"sensor/%c/data"}, []string{"command/%c/+"})
	fmt.Println(grants != nil, err)
	_, err = auth.NewGrants([]string{"sensor/#/data"}, nil)
	fmt.Println(err)
	// Output:
	// true <nil>
	// auth: grant "sensor/#/data": topics: invalid filter: '#' not last
}
