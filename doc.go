// Package petrel is an MQTT broker that a Go program imports. It speaks MQTT
// 5.0, 3.1.1 and 3.1 on one port, on any [net.Listener].
//
//	broker, err := petrel.New(petrel.Options{Hooks: []petrel.Hook{auth.AllowAll{}}})
//	if err != nil {
//		log.Fatal(err)
//	}
//	defer broker.Close()
//	log.Fatal(broker.ListenAndServe(":1883"))
//
// # Hooks
//
// The host program decides who may connect and what a client may do, sees and
// changes messages, and is told what happens, by values in [Options.Hooks] that
// implement one or more small interfaces, see [Hook]. A decision that fails, for
// whatever reason, refuses. Package hooks/auth has hooks to begin with.
//
// # Sessions
//
// A session belongs to the identity that created it: another user with the same
// client identifier is refused. It ends when the client said it should, and
// never sooner because of a default. With a [Store] among the hooks it outlives the
// process, and what was acknowledged is in the store.
//
// # Back-pressure
//
// A client that reads slowly costs its own messages only: they wait in the
// queue of its session, which is bounded by [Options.QueueMessages] and
// [Options.QueueBytes], and what does not fit is dropped, counted and reported
// to each [DropObserver]. A publisher never waits for a subscriber.
//
// # Security
//
// A broker without an [Authenticator] does not start. Every malformed packet
// closes the connection that it came on, with the reason code of the standard,
// and harms no other. A panic in a hook refuses what it was asked for.
package petrel
