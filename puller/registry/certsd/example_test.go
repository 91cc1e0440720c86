package certsd_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/registry/certsd"
)

// exampleDir is a directory with the configuration of Docker Hub.
func exampleDir() (certs string, remove func()) {
	certs, err := os.MkdirTemp("", "certs.d")
	if err != nil {
		panic(err)
	}
	_ = os.Mkdir(filepath.Join(certs, "docker.io"), 0o700)
	_ = os.WriteFile(filepath.Join(certs, "docker.io", "hosts.toml"), []byte(`
server = "https://registry-1.docker.io"
[host."https://cache.example:5000"]
  capabilities = ["pull"]
`), 0o600)
	return certs, func() { _ = os.RemoveAll(certs) }
}

func ExampleDir() {
	certs, remove := exampleDir()
	defer remove()
	client, err := registry.New(registry.Config{HostsReader: certsd.Dir(certs)})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.CloseIdleConnections()
	fmt.Println("ready")
	// Output: ready
}

func ExampleDir_Read() {
	certs, remove := exampleDir()
	defer remove()
	hosts, err := certsd.Dir(certs).Read(context.Background(), "docker.io")
	fmt.Println(hosts.Mirrors[0].URL, hosts.Server.URL, err)
	// Output: https://cache.example:5000 https://registry-1.docker.io <nil>
}

func ExampleDir_ReadHosts() {
	certs, remove := exampleDir()
	defer remove()
	hosts, version, err := certsd.Dir(certs).ReadHosts("other.example", nil)
	fmt.Println(len(hosts.Mirrors), version == "", err) // the directory does not say anything about it
	// Output: 0 true <nil>
}
