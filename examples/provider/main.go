// Command provider pulls with an exec credential provider plugin, as nodes do for the
// registries of clouds. A CredentialProviderConfig names a program. The program gets
// the image's name and a token of the Pod's service account, and answers with a user
// name and a password. Here this command is its own plugin (plugin.go), and the
// registry is on loopback.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/pullpolicy"
)

func main() {
	var err error
	if strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe") == pluginName {
		err = plugin(os.Stdin, os.Stdout)
	} else {
		flag.Usage = func() {
			fmt.Fprintln(os.Stderr, "usage: provider    (a demonstration on loopback; it takes no arguments)")
		}
		flag.Parse()
		if flag.NArg() > 0 {
			flag.Usage()
			os.Exit(2)
		}
		err = demo(context.Background(), os.Stdout)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", filepath.Base(os.Args[0]), err)
		os.Exit(1)
	}
}

func demo(ctx context.Context, out io.Writer) error {
	reg, err := pullertest.Start(pullertest.Config{
		Auth: pullertest.AuthBearer, Users: []pullertest.User{{Name: "token-user", Password: passwordFor(demoToken)}},
	})
	if err != nil {
		return err
	}
	defer reg.Close()
	if _, err := reg.PutImage("team/app:v1", pullertest.ImageSpec{Layers: []int64{1 << 20}}); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "provider-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	node, err := install(dir, reg.Host(), out)
	if err != nil {
		return err
	}
	rt, err := transfer.New(transfer.Config{Store: &pullertest.MemStore{}})
	if err != nil {
		return err
	}
	p, err := puller.New(puller.Config{
		Runtime: rt,
		Keyring: node, // the Puller calls node.For with each request's Pod
	})
	if err != nil {
		return err
	}
	pod := credentials.Pod{
		Namespace: "web", Name: "app-1", UID: "11111111-2222-3333-4444-555555555555",
		ServiceAccount: credentials.ServiceAccount{Namespace: "web", Name: "builder", UID: "66666666-7777-8888-9999-000000000000"},
	}
	for _, try := range []struct {
		what string
		pod  credentials.Pod
	}{
		{"Without a Pod, a plugin that needs a Pod's token is passed over", credentials.Pod{}},
		{"For the Pod", pod},
		{"Again: the answer is kept for the time that the plugin gave", pod},
	} {
		fmt.Fprintf(out, "\n-- %s:\n", try.what)
		img, err := p.Pull(ctx, puller.Request{Image: reg.Host() + "/team/app:v1", Policy: pullpolicy.Always, Pod: try.pod})
		if err != nil {
			fmt.Fprintln(out, err)
			continue
		}
		fmt.Fprintln(out, "pulled", img.Ref, img.Digest)
	}
	return nil
}

// install writes the plugin and its configuration, as a node's administrator does, and
// reads them, as the kubelet does when it starts.
func install(dir, host string, out io.Writer) (credentials.PodKeyring, error) {
	if err := copySelf(filepath.Join(dir, pluginName)); err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "config.yaml")
	text := fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
- name: %s
  apiVersion: credentialprovider.kubelet.k8s.io/v1
  matchImages: ["%s/team"]
  defaultCacheDuration: 10m
  tokenAttributes:
    serviceAccountTokenAudience: registry
    cacheType: ServiceAccount
    requireServiceAccount: true
`, pluginName, host)
	fmt.Fprint(out, text)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	// If no plugin needs a token, only the directory must be set.
	return credentials.ReadProviders(config, credentials.ProviderConfig{
		Exec: credentials.Exec{Dir: dir},
		// In a real program, Token calls the TokenRequest API.
		Token: func(context.Context, credentials.Pod, string) (credentials.Sensitive, error) {
			return credentials.Conceal(demoToken), nil
		},
		Logger: slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: withoutTime})),
	})
}

func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}
