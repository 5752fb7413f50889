module github.com/petrelmq/petrel/benchmarks

go 1.26.0

require (
	github.com/mochi-mqtt/server/v2 v2.7.9
	golang.org/x/sys v0.50.0
)

require (
	github.com/gorilla/websocket v1.5.0 // indirect
	github.com/rs/xid v1.6.0 // indirect
	github.com/stretchr/testify v1.12.1 // indirect
	gopkg.in/yaml.v3 v3.0.1 // indirect
)

replace github.com/petrelmq/petrel => ../
