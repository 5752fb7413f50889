package interop

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net"
	"strconv"
	"testing"
)

var mosquitto = driver{
	name:       "mosquitto",
	title:      "mosquitto_pub and mosquitto_sub 2.0",
	versions:   []string{"3.1", "3.1.1", "5.0"},
	transports: []string{"tcp", "tls", "mtls", "unix"},
	missing: func() error {
		const install = "apt-get install mosquitto-clients"
		return errors.Join(installed("mosquitto_sub", install), installed("mosquitto_pub", install),
			installed("stdbuf", "apt-get install coreutils"))
	},
	subscribe: func(t *testing.T, o options, filter string, qos int) *subscriber {
		args := append(mosquittoFlags(o), "-t", filter, "-q", strconv.Itoa(qos), "-d", "-F", "MSG|%q|%r|%x|%t")
		// mosquitto_sub flushes what it prints when a message comes, not when a SUBACK does.
		args = append([]string{"-oL", "mosquitto_sub"}, args...)
		// Version 2.0 of it ends when a broker says DISCONNECT, which only 5.0 has.
		again := o.restarts && o.version == "5.0"
		return subscribeWith(t, again, mosquittoLine, "stdbuf", args...)
	},
	publish: func(t *testing.T, o options, m message) {
		args := append(mosquittoFlags(o), "-t", m.Topic, "-q", strconv.Itoa(m.QoS))
		if m.Retain {
			args = append(args, "-r")
		}
		if m.Payload == "" {
			args = append(args, "-n")
		} else {
			args = append(args, "-s")
		}
		publishWith(t, m.Payload, "mosquitto_pub", args...)
	},
}

func mosquittoFlags(o options) []string {
	args := []string{"-V", map[string]string{"3.1": "mqttv31", "3.1.1": "mqttv311", "5.0": "mqttv5"}[o.version]}
	if o.transport.network() == "unix" {
		args = append(args, "--unix", o.addr)
	} else {
		host, port, _ := net.SplitHostPort(o.addr)
		args = append(args, "-h", host, "-p", port)
	}
	if o.transport.secure {
		args = append(args, "--cafile", caFile)
	}
	if o.transport.mutual {
		args = append(args, "--cert", certFile, "--key", keyFile)
	}
	if o.id != "" {
		args = append(args, "-i", o.id)
	}
	if w := o.will; w != nil {
		args = append(args, "--will-topic", w.Topic, "--will-payload", w.Payload, "--will-qos", strconv.Itoa(w.QoS))
	}
	return args
}

// mosquittoLine parses what mosquitto_sub prints with -d and the format above.
func mosquittoLine(line []byte) (*message, bool) {
	if bytes.HasSuffix(line, []byte(" received SUBACK")) {
		return nil, true
	}
	f := bytes.SplitN(line, []byte("|"), 5)
	if len(f) != 5 || string(f[0]) != "MSG" {
		return nil, false
	}
	qos, err := strconv.Atoi(string(f[1]))
	if err != nil {
		return nil, false
	}
	payload, err := hex.DecodeString(string(f[3]))
	if err != nil {
		return nil, false
	}
	return &message{Topic: string(f[4]), Payload: string(payload), QoS: qos, Retain: string(f[2]) == "1"}, false
}
