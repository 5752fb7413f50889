module github.com/petrelmq/petrel/examples

go 1.26.0

require (
	github.com/petrelmq/petrel v0.0.0
	github.com/petrelmq/petrel/hooks/jwt v0.0.0
	github.com/petrelmq/petrel/hooks/store/bolt v0.0.0
	github.com/stretchr/testify v1.12.1
	golang.org/x/net v0.62.0
)

require (
	github.com/golang-jwt/jwt/v5 v5.3.1 // indirect
	github.com/rs/xid v1.6.0 // indirect
	go.etcd.io/bbolt v1.5.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace (
	github.com/petrelmq/petrel => ../
	github.com/petrelmq/petrel/hooks/jwt => ../hooks/jwt
	github.com/petrelmq/petrel/hooks/store/bolt => ../hooks/store/bolt
)
