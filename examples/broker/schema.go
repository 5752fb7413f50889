package main

import (
	"fmt"
	"time"

	"github.com/petrelmq/petrel/hooks/limit"
	"github.com/petrelmq/petrel/listeners"
)

// keys are those that an object of the configuration file may have. The value
// of each is the keys of an object inside, a function that makes them when the
// object is there, a list of listeners, or a pointer to decode into.
type keys map[string]any

// doorList is a list of listeners to read.
type doorList struct {
	transport
	list *[]door
}

// keys is the whole schema of the file. The limits are named as in petrel.Options.
func (c *config) keys() keys {
	return keys{
		"listeners": keys{
			"tcp":  doorList{overTCP, &c.tcp},
			"tls":  doorList{overTLS, &c.tls},
			"ws":   doorList{overWS, &c.ws},
			"wss":  doorList{overWSS, &c.wss},
			"unix": doorList{overUnix, &c.unix},
		},
		"websocket": keys{
			"path":           &c.web.Path,
			"origins":        &c.web.Origins,
			"allowAnyOrigin": &c.web.AllowAnyOrigin,
			"trustedProxies": &c.web.TrustedProxies,
			"proxyHeader":    &c.web.ProxyHeader,
		},
		"tls": c.tlsFiles.keys(),
		"authentication": keys{
			"anonymous":          &c.anonymous,
			"passwordFile":       &c.passwords,
			"aclFile":            &c.acl,
			"grantSubscriptions": &c.grantAll,
			"certificateName":    &c.certificateName,
			"outliveCertificate": &c.outlive,
			"peerUserName":       &c.peerUserName,
			"scram":              keys{"file": &c.scram.file, "saltKeyFile": &c.scram.saltKeyFile},
			"jwt":                c.jwt.keys(),
			"http":               c.site.keys(),
		},
		"connectRates": func() keys {
			c.rates = new(limit.Options)
			return keys{
				"perAddress":         rateKeys(&c.rates.PerAddress),
				"failuresPerAddress": rateKeys(&c.rates.FailuresPerAddress),
				"perIdentity":        rateKeys(&c.rates.PerIdentity),
				"exempt":             &c.rates.Exempt,
			}
		},
		"data": keys{
			"directory": &c.data,
			"sync":      &c.sync,
		},
		"log":    &c.log,
		"limits": c.limitKeys(),
	}
}

// keys are those of one listener.
func (d *door) keys() keys {
	k := keys{
		"address":            &d.address,
		"systemd":            &d.systemd,
		"name":               &d.label,
		"maximumConnections": &d.connections,
		"authenticateBy":     &d.ways,
		"anonymous":          &d.anonymous,
		"proxyProtocol": func() keys {
			d.proxy = new(listeners.ProxyOptions)
			return keys{"trusted": &d.proxy.Trusted, "trustUnix": &d.proxy.TrustUnix, "optional": &d.proxy.Optional}
		},
	}
	if d.secure {
		k["tls"] = func() keys {
			d.tls = new(tlsFiles)
			return d.tls.keys()
		}
	}
	if d.unix {
		k["mode"] = &d.mode
	}
	return k
}

func (f *tlsFiles) keys() keys {
	return keys{
		"certificate":               &f.certificate,
		"key":                       &f.key,
		"clientCA":                  &f.clientCA,
		"crl":                       &f.crl,
		"optionalClientCertificate": &f.optional,
		"tolerateExpiredCRL":        &f.expired,
		"keepRevoked":               &f.stay,
	}
}

func rateKeys(r *limit.Rate) keys {
	return keys{"count": &r.Count, "period": (*duration)(&r.Period), "burst": &r.Burst}
}

func (c *config) limitKeys() keys {
	l := &c.limits
	return keys{
		"connectTimeout":                (*duration)(&l.ConnectTimeout),
		"maximumPacketSize":             &l.MaximumPacketSize,
		"maximumConnectSize":            &l.MaximumConnectSize,
		"receiveMaximum":                &l.ReceiveMaximum,
		"maximumInflight":               &l.MaximumInflight,
		"topicAliasMaximum":             &l.TopicAliasMaximum,
		"maximumTopicLevels":            &l.MaximumTopicLevels,
		"maximumFilters":                &l.MaximumFilters,
		"maximumUserProperties":         &l.MaximumUserProperties,
		"queueMessages":                 &l.QueueMessages,
		"queueBytes":                    &l.QueueBytes,
		"outboundBytes":                 &l.OutboundBytes,
		"maximumConnections":            &l.MaximumConnections,
		"maximumSessions":               &l.MaximumSessions,
		"maximumRetained":               &l.MaximumRetained,
		"maximumRetainedBytes":          &l.MaximumRetainedBytes,
		"maximumConnectionsPerIdentity": &l.MaximumConnectionsPerIdentity,
		"maximumSessionsPerIdentity":    &l.MaximumSessionsPerIdentity,
		"maximumSubscriptions":          &l.MaximumSubscriptions,
		"messageRate":                   &l.MessageRate,
		"byteRate":                      &l.ByteRate,
		"memoryLimit":                   &l.MemoryLimit,
		"maximumSessionExpiry":          (*duration)(&l.MaximumSessionExpiry),
		"maximumKeepAlive":              (*duration)(&l.MaximumKeepAlive),
	}
}

// files are the names of all files in the configuration, and of the directory.
func (c *config) files() []*string {
	list := []*string{&c.passwords, &c.acl, &c.scram.file, &c.scram.saltKeyFile, &c.jwt.keysFile, &c.site.tokenFile, &c.data}
	certificates := []*tlsFiles{&c.tlsFiles}
	for _, doors := range [][]door{c.tls, c.wss} {
		for i := range doors {
			if doors[i].tls != nil {
				certificates = append(certificates, doors[i].tls)
			}
		}
	}
	for _, f := range certificates {
		list = append(list, &f.certificate, &f.key, &f.clientCA, &f.crl)
	}
	return list
}

// duration is written as time.ParseDuration reads it: "90s", "1h30m".
type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf(`%q is no duration such as "90s" or "1h30m"`, text)
	}
	*d = duration(v)
	return nil
}
