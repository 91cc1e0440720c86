module github.com/pullkit/pullkit/examples/adapters/containerd

go 1.25.0

require (
	github.com/pullkit/pullkit v0.0.0
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/gobwas/glob v1.1.0 // indirect
	github.com/opencontainers/go-digest v1.0.0 // indirect
	go.yaml.in/yaml/v2 v2.4.2 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	sigs.k8s.io/yaml v1.6.0 // indirect
)

replace github.com/pullkit/pullkit => ../../..
