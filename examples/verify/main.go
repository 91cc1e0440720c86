// Command verify pulls images into an OCI image layout, and uses an image only if programs
// admit it that speak the protocol of containerd's image verifiers:
//
//	verify -programs DIR [flags] IMAGE...
//
// The programs get the credential of a private image in DOCKER_CONFIG, so that they can
// read signatures next to it. Records next to the layout keep who admitted which image, so
// that the next call asks the programs again only if they have changed. An image that is
// in the layout already is checked too.
//
// Without arguments it shows a check in Go on loopback: a private registry with a signed
// image, an unsigned one, and others whose signatures are not good, each with the line
// that says why.
//
// With names of images it exits with 0 if every image may be used, 1 if an image may not, and
// 2 for wrong usage.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/puller/verify"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options are the settings from the command line.
type options struct {
	programs     string
	dir          string
	config       string
	secrets      []string
	platform     ocispec.Platform
	policy       pullpolicy.Policy
	plainHTTP    bool
	explain      bool
	trustPresent bool
	images       []string
}

func parseFlags(args []string, stderr io.Writer) (o options, err error) {
	o.platform = index.Host()
	flags := flag.NewFlagSet("verify", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, "usage: verify -programs DIR [flags] IMAGE...\n       verify            (a demonstration on loopback)\n\nflags:\n")
		flags.PrintDefaults()
	}
	flags.StringVar(&o.programs, "programs", "", "`directory` of the programs that check images; all of them must admit an image")
	flags.StringVar(&o.dir, "o", "images", "OCI image layout `directory` to store into")
	flags.StringVar(&o.config, "config", "", "config.json `file` with credentials of the node (default: $DOCKER_CONFIG/config.json, then the usual places)")
	flags.Func("secret", "`file` of imagePullSecret manifests, YAML or JSON; repeatable", func(s string) error {
		o.secrets = append(o.secrets, s)
		return nil
	})
	flags.Func("platform", "`OS/ARCH[/VARIANT]` to pull for (default: this machine's)", func(s string) (err error) {
		o.platform, err = index.ParsePlatform(s)
		return err
	})
	flags.Func("policy", "pull `policy`: Always, IfNotPresent or Never (default: Always for :latest, else IfNotPresent)", func(s string) (err error) {
		o.policy, err = pullpolicy.Parse(s)
		return err
	})
	flags.BoolVar(&o.plainHTTP, "plain-http", false, "use plain http for the registries of the named images")
	flags.BoolVar(&o.explain, "explain", false, "print what a pull would do and why, and do not pull")
	flags.BoolVar(&o.trustPresent, "trust-present", false, "use images that are in the layout already, without a check")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	switch o.images = flags.Args(); {
	case len(o.images) == 0:
		return o, errors.New("no image is named; give one or more, or no arguments for a demonstration")
	case o.programs == "":
		return o, errors.New("give the directory of the programs that check images, with -programs")
	}
	return o, nil
}

// run runs the program and returns its exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		if err := demo(ctx, stdout); err != nil {
			fmt.Fprintln(stderr, "verify:", err)
			return 1
		}
		return 0
	}
	o, err := parseFlags(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(stderr, "verify:", err)
		return 2
	}
	ok, err := pull(ctx, o, stdout, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "verify:", err)
	}
	if err != nil || !ok {
		return 1
	}
	return 0
}

// pull pulls or explains the images. ok reports whether all of them may be used.
func pull(ctx context.Context, o options, stdout, stderr io.Writer) (ok bool, err error) {
	secrets, node, err := readCredentials(o)
	if err != nil {
		return false, err
	}
	check, err := verify.Programs(o.programs, verify.Config{PassCredential: true})
	if err != nil {
		return false, err
	}
	store, err := layout.Open(o.dir, layout.Config{})
	if err != nil {
		return false, err
	}
	defer store.Close()
	kept, err := records.Open(o.dir + ".records")
	if err != nil {
		return false, err
	}
	defer kept.Close()
	p, err := newPuller(store, o.plainHosts(), puller.Config{
		Keyring: node, Platform: o.platform, Records: kept, Admission: check, TrustPresent: o.trustPresent,
	})
	if err != nil {
		return false, err
	}
	ok = true
	for _, image := range o.images {
		req := puller.Request{Image: image, Policy: o.policy, Keyring: secrets}
		if o.explain {
			d, err := p.Explain(ctx, req)
			if err != nil {
				return false, err
			}
			fmt.Fprint(stdout, d)
			continue
		}
		img, err := p.Pull(ctx, req)
		if err != nil {
			ok = false
			fmt.Fprintln(stderr, "verify:", err)
			continue
		}
		fmt.Fprintln(stdout, admittedLine(img))
	}
	return ok, nil
}

// newPuller returns a Puller that stores into store. plainHosts are asked over plain http.
func newPuller(store content.Store, plainHosts []string, config puller.Config) (*puller.Puller, error) {
	source, err := registry.New(registry.Config{PlainHTTP: plainHosts, UserAgent: "pullkit-example-verify"})
	if err != nil {
		return nil, err
	}
	if config.Runtime, err = transfer.New(transfer.Config{Store: store, Source: source}); err != nil {
		return nil, err
	}
	return puller.New(config)
}

// admittedLine says who admitted an image.
func admittedLine(img puller.Image) string {
	if img.AdmittedBy == "" {
		return fmt.Sprintf("%s: used without a check", img.Ref)
	}
	return fmt.Sprintf("%s: admitted by %s", img.Ref, img.AdmittedBy)
}

// plainHosts returns the registries of the named images if -plain-http is set.
func (o options) plainHosts() []string {
	var hosts []string
	for _, image := range o.images {
		if ref, err := reference.Parse(image); o.plainHTTP && err == nil {
			hosts = append(hosts, ref.Registry())
		}
	}
	return hosts
}

// errNoSecret is the reason for a manifest that was probably named by mistake.
var errNoSecret = errors.New("it has no Secret")

// readCredentials reads the pull secrets and the node's config.json.
func readCredentials(o options) (secrets, node credentials.Keyring, err error) {
	var all []credentials.Secret
	for _, name := range o.secrets {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, nil, fmt.Errorf("pull secrets: %w", err)
		}
		some, err := credentials.ParseSecrets(data)
		if err != nil || len(some) == 0 {
			return nil, nil, fmt.Errorf("pull secrets: %s: %w", name, cmp.Or(err, errNoSecret))
		}
		all = append(all, some...)
	}
	paths := slices.Concat(credentials.DockerPaths(), credentials.ContainersPaths())
	file, err := credentials.FindFile(paths, credentials.Rules{})
	if o.config != "" {
		file, err = credentials.ReadFile(o.config, credentials.Rules{})
	}
	if err != nil {
		return nil, nil, fmt.Errorf("node credentials: %w", err)
	}
	return credentials.FromSecrets(all, credentials.Rules{}), file.WithHelpers(credentials.Exec{}), nil
}
