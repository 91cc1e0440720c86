package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/verify"
	"github.com/pullkit/pullkit/pullpolicy"
)

// sign stores a signature of text next to the image with the digest subject.
func sign(reg *pullertest.Registry, subject ocispec.Descriptor, text []byte, key ed25519.PrivateKey) error {
	layer := reg.PutBlob("team/app", signatureType, ed25519.Sign(key, text))
	config := reg.PutBlob("team/app", ocispec.MediaTypeEmptyJSON, []byte("{}"))
	data, err := json.Marshal(ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		ArtifactType: signatureType, Config: config, Layers: []ocispec.Descriptor{layer}, Subject: &subject})
	if err != nil {
		return err
	}
	reg.PutManifest("team/app", ocispec.MediaTypeImageManifest, data)
	return nil
}

// demo shows which images of a private registry a policy admits, and why it refuses the
// others.
func demo(ctx context.Context, stdout io.Writer) error {
	reg, err := pullertest.Start(pullertest.Config{Auth: pullertest.AuthBasic, Users: []pullertest.User{{Name: "robot", Password: "s3cret-pass"}}})
	if err != nil {
		return err
	}
	defer reg.Close()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	other := digest.FromString("another image")
	for i, image := range []struct {
		tag  string
		key  ed25519.PrivateKey
		text func(digest.Digest) []byte
	}{
		{"signed", private, signedText},
		{"unsigned", nil, nil},
		{"stranger", stranger, signedText},
		{"swapped", private, func(digest.Digest) []byte { return signedText(other) }},
	} {
		put, err := reg.PutImage("team/app:"+image.tag, pullertest.ImageSpec{Layers: []int64{1000}, Seed: uint64(i)})
		if err != nil {
			return err
		}
		if image.key != nil {
			if err := sign(reg, put.Descriptor, image.text(put.Descriptor.Digest), image.key); err != nil {
				return err
			}
		}
	}
	if _, err := reg.PutImage("other/app:v1", pullertest.ImageSpec{}); err != nil {
		return err
	}

	policy, err := verify.Policy(verify.Reject(), verify.Rule{Pattern: reg.Host() + "/team/*", Check: signed("of the team", public)})
	if err != nil {
		return err
	}
	data, err := credentials.DockerConfig{Server: reg.Host(), Username: "robot", Password: credentials.Conceal("s3cret-pass")}.JSON()
	if err != nil {
		return err
	}
	node, err := credentials.ParseFile(data, "config.json", credentials.Rules{})
	if err != nil {
		return err
	}
	p, err := newPuller(&pullertest.MemStore{}, []string{reg.Host()}, puller.Config{Keyring: node, Admission: policy})
	if err != nil {
		return err
	}
	show := func(image string, policy pullpolicy.Policy) {
		before := reg.Counts()
		img, err := p.Pull(ctx, puller.Request{Image: reg.Host() + "/" + image, Policy: policy})
		line := fmt.Sprint(err)
		if err == nil {
			line = admittedLine(img)
		}
		after := reg.Counts()
		fmt.Fprintf(stdout, "%s\n  policy %s, %d requests\n", line, policy, after.Total()-before.Total())
	}
	for _, image := range []string{"team/app:signed", "team/app:unsigned", "team/app:stranger", "team/app:swapped", "other/app:v1"} {
		show(image, pullpolicy.IfNotPresent)
	}
	fmt.Fprintln(stdout, "\nThe stored image was admitted by the pull, so neither the check nor the registry is asked:")
	show("team/app:signed", pullpolicy.Never)
	return ctx.Err()
}
