// Command check prints whether images exist, and which credential opens each image:
//
//	check [-plain-http] [-config FILE] [-secret FILE]... IMAGE...
//
// It asks by HEAD, which Docker Hub does not count as a pull, and writes nothing to disk. After
// a refusal that does not say why, such as a 404, it asks for the manifest by GET as well. It
// exits with 0 if all images exist, 3 if a credential is refused or missing, 4 if an image
// does not exist, and 5 if a registry cannot be reached or gives no clear answer. For several
// images the worst status counts, in the order 5, 3, 4, 0. It exits with 1 if a file that the
// user named cannot be read, and with 2 for wrong usage; in both cases it asks no registry.
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
	"strings"
	"syscall"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
)

// The exit statuses.
const (
	exists      = 0
	broken      = 1 // a file that the user named cannot be read
	usage       = 2
	denied      = 3
	absent      = 4
	unreachable = 5
)

// worst lists the exit statuses of images, the worst first.
var worst = []int{unreachable, denied, absent, exists}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options are the settings from the command line.
type options struct {
	plainHTTP bool
	config    string
	secrets   []string
	images    []string
}

func parseFlags(args []string, stderr io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("check", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, "usage: check [flags] IMAGE...\n\nflags:\n")
		flags.PrintDefaults()
	}
	flags.BoolVar(&o.plainHTTP, "plain-http", false, "use plain http for the registries of the named images")
	flags.StringVar(&o.config, "config", "", "config.json `file` with credentials (default: $DOCKER_CONFIG/config.json, then the usual places)")
	flags.Func("secret", "`file` of imagePullSecret manifests, YAML or JSON; repeatable", func(s string) error {
		o.secrets = append(o.secrets, s)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.images = flags.Args(); len(o.images) == 0 {
		return o, errors.New("no image named")
	}
	return o, nil
}

// run runs the program and returns its exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseFlags(args, stderr)
	var hosts []string
	for _, image := range o.images {
		ref, parseErr := reference.Parse(image)
		if parseErr != nil {
			err = parseErr
			break
		}
		hosts = append(hosts, ref.Registry())
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exists
	case err != nil:
		fmt.Fprintln(stderr, "check:", err)
		return usage
	}
	if !o.plainHTTP {
		hosts = nil
	}
	pods, node, err := readCredentials(o, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "check:", err)
		return broken
	}
	// There is no Store, because Find does not need one.
	source, err := registry.New(registry.Config{PlainHTTP: hosts})
	if err != nil {
		fmt.Fprintln(stderr, "check:", err)
		return broken
	}
	rt, err := transfer.New(transfer.Config{Source: source})
	if err != nil {
		fmt.Fprintln(stderr, "check:", err)
		return broken
	}
	p, err := puller.New(puller.Config{Runtime: rt, Keyring: node})
	if err != nil {
		fmt.Fprintln(stderr, "check:", err)
		return broken
	}
	code := exists
	for _, image := range o.images {
		found, err := p.Find(ctx, puller.Request{Image: image, Keyring: pods})
		got := status(err)
		if got == exists {
			fmt.Fprintf(stdout, "%s: exists as %s, opened by %s\n", image, found.Ref.Digest(), found.Origin)
		} else {
			fmt.Fprintf(stderr, "check: %s: %s\n", words[got], oneLine(err))
		}
		if slices.Index(worst, got) < slices.Index(worst, code) {
			code = got
		}
	}
	return code
}

// words are the exit statuses of images in words.
var words = map[int]string{denied: "denied", absent: "absent", unreachable: "unreachable"}

// status returns the exit status for one image.
func status(err error) int {
	if err == nil {
		return exists
	}
	switch credentials.VerdictOf(err) {
	case credentials.VerdictAbsent:
		return absent
	case credentials.VerdictDenied, credentials.VerdictUnauthorized:
		return denied
	}
	return unreachable
}

// errNoSecret is the reason for a manifest that was probably named by mistake.
var errNoSecret = errors.New("it has no Secret")

// readCredentials reads the pull secrets, which are tried first, and the config.json. It
// prints a warning for each entry that cannot be used.
func readCredentials(o options, stderr io.Writer) (pods, node credentials.Keyring, err error) {
	var secrets []credentials.Secret
	for _, name := range o.secrets {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, nil, fmt.Errorf("pull secrets: %w", err)
		}
		read, err := credentials.ParseSecrets(data)
		if len(read) == 0 {
			return nil, nil, fmt.Errorf("pull secrets: %s: %w", name, cmp.Or(err, errNoSecret))
		}
		if err != nil {
			fmt.Fprintf(stderr, "check: warning: %s: %s\n", name, oneLine(err))
		}
		secrets = append(secrets, read...)
	}
	config, err := readConfig(o.config)
	if err != nil {
		return nil, nil, fmt.Errorf("credentials: %w", err)
	}
	pods, node = credentials.FromSecrets(secrets, credentials.Rules{}), config.WithHelpers(credentials.Exec{})
	for _, problem := range slices.Concat(credentials.Problems(pods), credentials.Problems(node)) {
		fmt.Fprintln(stderr, "check: warning:", oneLine(problem))
	}
	return pods, node, nil
}

func readConfig(name string) (*credentials.File, error) {
	if name != "" {
		return credentials.ReadFile(name, credentials.Rules{})
	}
	return credentials.FindFile(slices.Concat(credentials.DockerPaths(), credentials.ContainersPaths()), credentials.Rules{})
}

func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
