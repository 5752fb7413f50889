package interop

import (
	"fmt"
	"os"
	"slices"
	"testing"
)

var mqttJS = driver{
	name:       "MQTT.js",
	title:      "MQTT.js 5",
	versions:   []string{"3.1", "3.1.1", "5.0"},
	transports: []string{"tcp", "tls", "mtls", "ws", "wss", "unix"},
	missing: func() error {
		if err := installed("node", "install Node.js 20 or later"); err != nil {
			return err
		}
		if _, err := os.Stat("mqttjs/node_modules/mqtt"); err != nil {
			return fmt.Errorf("run npm ci in interop/mqttjs: %w", err)
		}
		return nil
	},
	subscribe: func(t *testing.T, o options, filter string, qos int) *subscriber {
		args := slices.Concat([]string{"mqttjs/subscriber.js"}, scriptFlags(o), subscribeFlags(filter, qos))
		return subscribeWith(t, false, scriptLine, "node", args...)
	},
	publish: func(t *testing.T, o options, m message) {
		args := slices.Concat([]string{"mqttjs/publisher.js"}, scriptFlags(o), publishFlags(m))
		publishWith(t, m.Payload, "node", args...)
	},
}
