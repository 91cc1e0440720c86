// Command cri-pull lets a container runtime pull an image, by the kubelet's rules, with the
// credentials in a docker config.json and in manifests of Secrets:
//
//	cri-pull -socket /run/containerd/containerd.sock -secrets secrets.yaml registry.example/team/app:v1
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/examples/cri"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/records"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func main() {
	socket := flag.String("socket", "/run/containerd/containerd.sock", "absolute `path` of the runtime's CRI socket")
	config := flag.String("config", "", "config.json `file` with the node's credentials")
	secrets := flag.String("secrets", "", "`file` with the manifest of the Pod's pull secrets")
	recordsDir := flag.String("records", "", "`directory` for the records of which Pod may use which image (default: no records)")
	flag.Usage = func() {
		fmt.Fprint(os.Stderr, "usage: cri-pull [flags] IMAGE\n\nflags:\n")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintf(os.Stderr, "cri-pull: %d images are named; name one\n", flag.NArg())
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *socket, *config, *secrets, *recordsDir, flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "cri-pull:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, socket, config, secrets, recordsDir, image string) error {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	conf := puller.Config{Runtime: cri.New(conn), Events: func(e puller.Event) { fmt.Println(e.Type, e.Reason, e.Message) }}
	if config != "" {
		if conf.Keyring, err = credentials.ReadFile(config, credentials.Rules{}); err != nil {
			return err
		}
	}
	if recordsDir != "" {
		files, err := records.Open(recordsDir)
		if err != nil {
			return err
		}
		defer files.Close()
		conf.Records = files
	}
	p, err := puller.New(conf)
	if err != nil {
		return err
	}
	req := puller.Request{Image: image}
	if secrets != "" {
		if req.Keyring, err = readSecrets(secrets); err != nil {
			return err
		}
	}
	img, err := p.Pull(ctx, req)
	if err == nil {
		fmt.Println(img.ID)
	}
	return err
}

func readSecrets(name string) (credentials.PodKeyring, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	list, err := credentials.ParseSecrets(data)
	if err != nil { // the error names the Secrets that are left out; the others are in the list
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: no Secret can be read", name)
	}
	return credentials.FromSecrets(list, credentials.Rules{}), nil
}
