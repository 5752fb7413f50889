module github.com/petrelmq/petrel/benchmarks

go 1.26.0

require (
	github.com/mochi-mqtt/server/v2 v2.7.9
	github.com/petrelmq/petrel v0.0.0-00010101000000-000000000000
	golang.org/x/sync v0.25.0
	golang.org/x/sys v0.50.0
)

require (
	github.com/gorilla/websocket v1.5.0 // indirect
	github.com/rs/xid v1.6.0 // indirect
	gopkg.in/yaml.v3 v3.0.1 // indirect
)

replace github.com/petrelmq/petrel => ../
