module github.com/pullkit/pullkit/internal/oracle/imageverifier

go 1.26.6

require (
	github.com/containerd/containerd/v2 v2.4.2
	github.com/opencontainers/go-digest v1.0.0
	github.com/opencontainers/image-spec v1.1.1
	github.com/pullkit/pullkit v0.0.0
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/containerd/log v0.2.0 // indirect
	github.com/gobwas/glob v1.1.0 // indirect
	github.com/sirupsen/logrus v1.10.2 // indirect
	go.yaml.in/yaml/v2 v2.4.4 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sys v0.48.0 // indirect
	sigs.k8s.io/yaml v1.6.0 // indirect
)

replace github.com/pullkit/pullkit => ../../..
