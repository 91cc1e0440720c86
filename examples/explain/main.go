// Command explain answers the question "why is my Pod in ImagePullBackOff?" for four
// situations, with a registry on loopback:
//
//	explain          text
//	explain -json    one JSON object on each line
//
// For images of your own: pull -explain -secret secret.yaml IMAGE.
//
// On a node, it says by the kubelet's own records whether a Pod may use an image that is
// present, and why: which record, which secret and which policy count, and what would change
// the answer. It reads only, and asks no registry and no runtime:
//
//	explain -kubelet /var/lib/kubelet -policy NeverVerifyPreloadedImages -namespace web -secret secret.yaml IMAGE
//
// IMAGE is the name as the Pod has it, because the kubelet keeps its records by that. The
// exit status is 0 if the question has an answer, 1 if it has none, and 2 for wrong usage.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/pullpolicy"
)

func main() { os.Exit(start(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) }

// start runs the program and returns its exit status.
func start(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseFlags(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "explain:", err)
		return 2
	}
	if o.kubelet == "" {
		err = run(ctx, o.json, stdout)
	} else {
		err = explainNode(ctx, o, stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, "explain:", err)
		return 1
	}
	return 0
}

// A situation is a Pod that waits for its image.
type situation struct {
	Situation string          `json:"situation"`
	Decision  puller.Decision `json:"decision"`
	Advice    string          `json:"advice"`
	request   puller.Request
	failed    bool // one pull of the image has failed before
}

func run(ctx context.Context, asJSON bool, out io.Writer) error {
	reg, err := pullertest.Start(pullertest.Config{
		Auth: pullertest.AuthBearer, Users: []pullertest.User{{Name: "robot", Password: "the-new-password"}},
	})
	if err != nil {
		return err
	}
	defer reg.Close()
	if _, err := reg.PutImage("team/app:v1", pullertest.ImageSpec{Layers: []int64{1 << 20}}); err != nil {
		return err
	}
	rt, err := transfer.New(transfer.Config{Store: &pullertest.MemStore{}})
	if err != nil {
		return err
	}
	p, err := puller.New(puller.Config{
		Runtime:  rt,
		Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
	})
	if err != nil {
		return err
	}
	situations, err := typical(reg.Host())
	if err != nil {
		return err
	}
	for _, s := range situations {
		if s.failed {
			_, _ = p.Pull(ctx, s.request) // the decision has the error
		}
		if s.Decision, err = p.Explain(ctx, s.request); err != nil {
			return err
		}
		s.Advice = advice(s.Decision)
		if asJSON {
			err = json.NewEncoder(out).Encode(s)
		} else {
			_, err = fmt.Fprintf(out, "== %s\n%s\n=> %s\n\n", s.Situation, s.Decision, s.Advice)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// typical returns the situations. The registry at host needs the new password.
func typical(host string) ([]situation, error) {
	stale, err1 := secret("stale", host, "the-old-password")
	noPort, err2 := secret("no-port", strings.Split(host, ":")[0], "the-new-password")
	if err1 != nil || err2 != nil {
		return nil, fmt.Errorf("secrets: %w, %w", err1, err2)
	}
	image := host + "/team/app:v1"
	return []situation{
		{Situation: "The secret has an old password", request: puller.Request{Image: image, Keyring: stale}},
		{Situation: "The secret's key has no port, but the image's name has one", request: puller.Request{Image: image, Keyring: noPort}},
		{Situation: "imagePullPolicy is Never, and the image is not on the node", request: puller.Request{Image: image, Policy: pullpolicy.Never}},
		{Situation: "The image failed a moment ago", request: puller.Request{Image: host + "/team/app:v2", Keyring: stale}, failed: true},
	}, nil
}

func secret(name, server, password string) (credentials.Keyring, error) {
	data, err := credentials.DockerConfig{Server: server, Username: "robot", Password: credentials.Conceal(password)}.JSON()
	return credentials.FromSecrets([]credentials.Secret{credentials.Secret{
		Namespace: "web", Name: name, Type: credentials.TypeDockerConfigJSON,
		Data: credentials.ConcealData(map[string][]byte{credentials.KeyDockerConfigJSON: data}),
	}}, credentials.Rules{}), err
}
