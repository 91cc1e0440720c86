package main

import (
	"context"
	"fmt"
	"io"
	"os"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/pullpolicy"
)

// demoPlatforms returns all platforms of the demonstration's image, and the one for this
// machine. If this machine does not run Linux, own is Linux on the same processor, because
// images for other systems are rare.
func demoPlatforms() (all []ocispec.Platform, own ocispec.Platform) {
	host := index.Host()
	own = index.Normalize(ocispec.Platform{OS: "linux", Architecture: host.Architecture})
	if host.Architecture == "arm" {
		own.Variant = host.Variant
	}
	for _, architecture := range []string{"amd64", "arm64"} {
		if p := index.Normalize(ocispec.Platform{OS: "linux", Architecture: architecture}); p.Architecture != own.Architecture {
			all = append(all, p)
		}
	}
	return append(all, own), own
}

// demo starts a registry, pulls a private image from it, and pulls the image again under
// two policies.
func demo(ctx context.Context, stdout io.Writer) (err error) {
	reg, err := pullertest.Start(pullertest.Config{
		Auth:  pullertest.AuthBearer,
		Users: []pullertest.User{{Name: "robot", Password: "the-new-password"}},
	})
	if err != nil {
		return err
	}
	defer reg.Close()
	platforms, own := demoPlatforms()
	if _, err := reg.PutImage("team/app:v1", pullertest.ImageSpec{Platforms: platforms, Layers: []int64{3 << 20, 200 << 10}}); err != nil {
		return err
	}
	image := reg.Host() + "/team/app:v1"
	fmt.Fprintf(stdout, "A registry on loopback has the private image %s for %d platforms.\nThe platform of this machine is %s.\n", image, len(platforms), index.FormatPlatform(own))
	secrets, err := demoSecrets(reg.Host())
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "pull-demo-")
	if err != nil {
		return err
	}
	defer func() { // the last line names the directory, which stays
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	store, err := layout.Open(dir, layout.Config{})
	if err != nil {
		return err
	}
	defer store.Close()
	out := newReport(stdout, stdout, false)
	rt, err := transfer.New(transfer.Config{Store: store})
	if err != nil {
		return err
	}
	p, err := puller.New(puller.Config{
		Runtime:  rt,
		Platform: own,
		Events:   out.event,
	})
	if err != nil {
		return err
	}
	req := puller.Request{Image: image, Keyring: secrets}

	fmt.Fprint(stdout, "\n-- What a pull would do, and why:\n")
	decision, err := p.Explain(ctx, req)
	if err != nil {
		return err
	}
	out.decision(decision)

	fmt.Fprint(stdout, "-- The pull:\n")
	img, err := p.Pull(ctx, req)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "chosen from the index: %s %s\n", index.FormatPlatform(img.Platform), img.Manifest)

	for _, policy := range []pullpolicy.Policy{pullpolicy.IfNotPresent, pullpolicy.Always} {
		fmt.Fprintf(stdout, "\n-- Again, under %s:\n", policy)
		reg.ResetCounts()
		req.Policy = policy
		if img, err = p.Pull(ctx, req); err != nil {
			return err
		}
		n := reg.Counts()
		fmt.Fprintf(stdout, "requests to the registry: %d for manifests, %d for blobs\n", n.ManifestHead+n.ManifestGet, n.BlobHead+n.BlobGet)
	}
	fmt.Fprintf(stdout, "\nThe image is stored as %s\nin the OCI image layout %s, which you can remove.\n", img.Digest, dir)
	return nil
}

// demoSecrets returns two pull secrets for one registry. The first one is stale.
func demoSecrets(host string) (credentials.PodKeyring, error) {
	var secrets []credentials.Secret
	for _, s := range []struct{ name, password string }{{"stale", "the-old-password"}, {"current", "the-new-password"}} {
		data, err := credentials.DockerConfig{Server: host, Username: "robot", Password: credentials.Conceal(s.password)}.JSON()
		if err != nil {
			return nil, err
		}
		secrets = append(secrets, credentials.Secret{
			Namespace: "demo", Name: s.name, Type: credentials.TypeDockerConfigJSON,
			Data: credentials.ConcealData(map[string][]byte{".dockerconfigjson": data}),
		})
	}
	return credentials.FromSecrets(secrets, credentials.Rules{}), nil
}
