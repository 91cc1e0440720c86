package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
)

// options are the settings from the command line.
type options struct {
	json    bool
	kubelet string // directory of the kubelet; "" for the demonstration
	id      string
	policy  pullpolicy.Policy
	verify  pullpolicy.VerificationPolicy
	allow   []string
	secrets []string
	pod     credentials.Pod
	image   string
}

func parseFlags(args []string, stderr io.Writer) (o options, err error) {
	o.policy = pullpolicy.IfNotPresent
	o.verify = pullpolicy.NeverVerifyPreloadedImages
	flags := flag.NewFlagSet("explain", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, "usage: explain [-json]                        (a demonstration on loopback)\n"+
			"       explain -kubelet DIR [flags] IMAGE     (may a Pod of this node use an image that is present?)\n\nflags:\n")
		flags.PrintDefaults()
	}
	each := func(list *[]string) func(string) error {
		return func(s string) error {
			*list = append(*list, s)
			return nil
		}
	}
	flags.BoolVar(&o.json, "json", false, "print one JSON object a line")
	flags.StringVar(&o.kubelet, "kubelet", "", "the kubelet's `directory`, such as /var/lib/kubelet, whose image_manager has the records")
	flags.StringVar(&o.id, "id", "", "`ID` of the image in the runtime, as crictl images --no-trunc prints it (default: the IDs whose records have the image's name)")
	flags.Func("policy", "imagePullPolicy (default IfNotPresent), or imagePullCredentialsVerificationPolicy (default NeverVerifyPreloadedImages); repeatable for both `policies`", func(s string) (err error) {
		policy, err1 := pullpolicy.Parse(s)
		_, err2 := pullpolicy.NewVerification(pullpolicy.VerificationPolicy(s))
		switch {
		case err1 == nil:
			o.policy = policy
		case err2 == nil:
			o.verify = pullpolicy.VerificationPolicy(s)
		default:
			return errors.Join(err1, err2)
		}
		return nil
	})
	flags.Func("allow", "`pattern` of preloadedImagesVerificationAllowlist, for NeverVerifyAllowlistedImages; repeatable", each(&o.allow))
	flags.Func("secret", "`file` of the Pod's imagePullSecrets, YAML or JSON, as kubectl get secret -o yaml prints them; repeatable", each(&o.secrets))
	flags.StringVar(&o.pod.Namespace, "namespace", "default", "`namespace` of the Pod")
	flags.Func("account", "`name,uid` of the Pod's service account", func(s string) error {
		name, uid, ok := strings.Cut(s, ",")
		if !ok || name == "" || uid == "" {
			return errors.New("write the name, a comma and the UID: kubectl get serviceaccount NAME -o jsonpath={.metadata.uid} prints it")
		}
		o.pod.ServiceAccount = credentials.ServiceAccount{Name: name, UID: uid}
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.pod.ServiceAccount.Namespace = o.pod.Namespace
	switch {
	case o.kubelet == "" && flags.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q; for a node write -kubelet DIR before the image, for images of your own run pull -explain", flags.Arg(0))
	case o.kubelet == "" && flags.NFlag() > 0 && (flags.NFlag() > 1 || !o.json):
		return o, errors.New("the flags other than -json need -kubelet DIR")
	case o.kubelet != "" && flags.NArg() != 1:
		return o, fmt.Errorf("%d images are named; name one", flags.NArg())
	}
	o.image = flags.Arg(0)
	return o, nil
}

// explainNode prints what the kubelet would do with each image that has the name o.image, by
// the kubelet's own records.
func explainNode(ctx context.Context, o options, out io.Writer) error {
	store, err := records.OpenKubelet(o.kubelet)
	if err != nil {
		return err
	}
	defer store.Close()
	verify, err := pullpolicy.NewVerification(o.verify, o.allow...)
	if err != nil {
		return err
	}
	keyring, err := readSecrets(o.secrets)
	if err != nil {
		return err
	}
	ids, err := imageIDs(ctx, store, o)
	if err != nil {
		return err
	}
	for _, id := range ids {
		p, err := puller.New(puller.Config{Runtime: presentImage{id}, Records: store, Verify: verify, AsKubelet: true})
		if err != nil {
			return err
		}
		d, err := p.Explain(ctx, puller.Request{Image: o.image, Policy: o.policy, Keyring: keyring, Pod: o.pod})
		if err != nil {
			return err
		}
		if o.json {
			err = json.NewEncoder(out).Encode(d)
		} else {
			_, err = fmt.Fprintf(out, "%s=> %s\n", d, advice(d))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unknownID is the ID of an image that no record names.
const unknownID = "not known"

// imageIDs returns the IDs of the images that may have the name.
func imageIDs(ctx context.Context, store *records.Kubelet, o options) ([]string, error) {
	if o.id != "" {
		return []string{o.id}, nil
	}
	name, err := reference.Trim(o.image)
	if err != nil {
		return nil, err
	}
	var ids []string
	var unread error // of the first record that cannot be read
	errs := 0
	for record, err := range store.List(ctx) {
		if _, ok := record.Names[name]; ok && err == nil {
			ids = append(ids, record.ID)
		}
		if err != nil {
			errs++
			unread = cmp.Or(unread, err)
		}
	}
	if len(ids) == 0 {
		if unread != nil { // a record that cannot be read may be that of the image
			return nil, fmt.Errorf("no record that can be read names the image; give its ID with -id. Records that cannot be read: %d, the first because of %w", errs, unread)
		}
		ids = []string{unknownID}
	}
	return ids, nil
}

// errNoSecret is the reason for a manifest that was probably named by mistake.
var errNoSecret = errors.New("it has no Secret")

func readSecrets(files []string) (credentials.Keyring, error) {
	var all []credentials.Secret
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		secrets, err := credentials.ParseSecrets(data)
		if err != nil || len(secrets) == 0 {
			return nil, fmt.Errorf("%s: %w", name, cmp.Or(err, errNoSecret))
		}
		all = append(all, secrets...)
	}
	return credentials.FromSecrets(all, credentials.Rules{Kubelet: true}), nil
}

// A presentImage is a Runtime in which every image is present, with the ID id. It cannot
// pull, because Explain calls only Status.
type presentImage struct{ id string }

func (r presentImage) Status(_ context.Context, spec puller.Spec) (puller.Image, error) {
	return puller.Image{Ref: spec.Ref, ID: r.id}, nil
}

func (presentImage) Pull(context.Context, puller.Spec) (puller.Image, error) {
	return puller.Image{}, errors.ErrUnsupported
}
