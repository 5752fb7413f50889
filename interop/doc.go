// Package interop holds tests of petrel with clients that other people wrote:
// one file per client says how to drive it, scenario_test.go says what every
// client must be able to do. The broker of ../examples/broker is built and run
// for it. README.md lists the clients and how to install them.
package interop
