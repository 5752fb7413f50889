module github.com/petrelmq/petrel/hooks/store/bolt

go 1.26.0

replace github.com/petrelmq/petrel => ../../../

require (
	github.com/rs/xid v1.6.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sys v0.45.0 // indirect
)

require (
	github.com/petrelmq/petrel v0.0.0
	github.com/stretchr/testify v1.12.1
	go.etcd.io/bbolt v1.5.0
)
