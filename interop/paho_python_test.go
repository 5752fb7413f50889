package interop

import (
	"fmt"
	"os/exec"
	"slices"
	"testing"
)

// The interpreter is the system's: another one would not see its packages.
const python = "/usr/bin/python3"

var pahoPython = driver{
	name:       "Paho Python",
	title:      "Paho for Python 1.6",
	versions:   []string{"3.1", "3.1.1", "5.0"},
	transports: []string{"tcp", "tls", "mtls", "ws", "wss"},
	missing: func() error {
		if out, err := exec.Command(python, "-c", "import paho.mqtt.client").CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get install python3-paho-mqtt: %w\n%s", err, out)
		}
		return nil
	},
	subscribe: func(t *testing.T, o options, filter string, qos int) *subscriber {
		args := slices.Concat([]string{"python/subscriber.py"}, scriptFlags(o), subscribeFlags(filter, qos))
		return subscribeWith(t, false, scriptLine, python, args...)
	},
	publish: func(t *testing.T, o options, m message) {
		args := slices.Concat([]string{"python/publisher.py"}, scriptFlags(o), publishFlags(m))
		publishWith(t, m.Payload, python, args...)
	},
}
