package unpack_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/puller/unpack"
)

// invalidProfile is the reason of CRI 0.38 for an artifact that is not a security profile. A
// retry does not help, because another pull gives the same bytes.
const invalidProfile puller.Reason = "SecurityProfileInvalid"

// What KEP-6061 says of a seccomp profile, and the limits that runtimes have by default.
const (
	seccompConfig = "application/vnd.cncf.seccomp-profile.config.v1+json" // media type of the artifact's config
	maxProfile    = 1 << 20
	maxSyscalls   = 128 // entries of the list
)

// pullProfile pulls the seccomp profile of a Pod, with the Pod's secrets, and returns the path of
// its file below dir. The reference has a digest.
func pullProfile(ctx context.Context, p *puller.Puller, store *layout.Layout, req puller.Request, dir string) (string, error) {
	invalid := func(format string, args ...any) error {
		return &puller.Error{Reason: invalidProfile, Image: req.Image, Err: fmt.Errorf(format, args...)}
	}
	if !strings.Contains(req.Image, "@") {
		return "", invalid("the reference has no digest")
	}
	img, err := p.Pull(ctx, req)
	if err != nil {
		return "", err // ErrImagePull, ImagePullBackOff, RegistryUnavailable
	}
	desc, err := store.Lookup(ctx, img.Ref)
	if err != nil {
		return "", err
	}
	body, err := fs.ReadFile(store.FS(), "sha256/"+img.Manifest.Encoded())
	if err != nil {
		return "", err
	}
	doc, err := index.Parse(desc.MediaType, body)
	switch {
	case err != nil || doc.Manifest == nil:
		return "", invalid("it is not a manifest: %v", err)
	case doc.Manifest.Config.MediaType != seccompConfig:
		return "", invalid("config media type %q", doc.Manifest.Config.MediaType)
	case len(doc.Manifest.Layers) != 1:
		return "", invalid("layer count %d", len(doc.Manifest.Layers))
	}
	out := filepath.Join(dir, img.Manifest.Encoded())
	files, err := unpack.Files(ctx, store, desc, out, unpack.Config{
		MaxFiles: 1, MaxBytes: maxProfile,
		Name: func(ocispec.Descriptor) string { return "profile.json" }, // for a layer without a title
	})
	var own unpack.Reason
	switch {
	case errors.As(err, &own) && own != unpack.ErrTaken && own != unpack.ErrChanged:
		return "", invalid("%w", err) // the artifact is at fault, and not the pull
	case err != nil:
		return "", err
	}
	if len(files) != 1 || files[0].Link != "" {
		return "", invalid("its layer is not one file")
	}
	file := filepath.Join(out, filepath.FromSlash(files[0].Name))
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	var profile struct {
		DefaultAction, ListenerPath string
		Syscalls                    []struct{ Action string }
	}
	switch err := json.Unmarshal(data, &profile); {
	case err != nil || profile.DefaultAction == "":
		return "", invalid("it is not a seccomp profile of the OCI runtime specification")
	case profile.ListenerPath != "" || len(profile.Syscalls) > maxSyscalls:
		return "", invalid("it has a listener, or more than %d entries", maxSyscalls)
	}
	return file, nil
}

// A seccomp profile is pulled with the secrets of a Pod (KEP-6061, alpha in Kubernetes 1.38),
// by the same rules as its images: each secret in turn, back-off, mirrors, verification. The
// file is what a runtime reads.
func Example_securityProfile() {
	reg, err1 := pullertest.Start(pullertest.Config{Auth: pullertest.AuthBasic, Users: []pullertest.User{{Name: "robot", Password: "secret"}}})
	dir, err2 := os.MkdirTemp("", "profiles-")
	store, err3 := layout.Open(filepath.Join(dir, "store"), layout.Config{})
	rt, err4 := transfer.New(transfer.Config{Store: store})
	p, err5 := puller.New(puller.Config{Runtime: rt})
	if err := cmp.Or(err1, err2, err3, err4, err5); err != nil {
		log.Fatal(err)
	}
	defer reg.Close()
	defer os.RemoveAll(dir)
	login, err := credentials.DockerConfig{Server: reg.Host(), Username: "robot", Password: credentials.Conceal("secret")}.JSON()
	if err != nil {
		log.Fatal(err)
	}
	podSecrets := credentials.FromSecrets([]credentials.Secret{{
		Namespace: "web", Name: "regcred", UID: "7", Type: credentials.TypeDockerConfigJSON,
		Data: credentials.ConcealData(map[string][]byte{credentials.KeyDockerConfigJSON: login}),
	}}, credentials.Rules{})
	for _, config := range []string{seccompConfig, ocispec.MediaTypeEmptyJSON} {
		image := putProfile(reg, config, `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read","write","exit"],"action":"SCMP_ACT_ALLOW"}]}`)
		file, err := pullProfile(context.Background(), p, store, puller.Request{Image: image, Keyring: podSecrets, Pod: credentials.Pod{Namespace: "web"}}, dir)
		if err != nil {
			fmt.Println(errors.Is(err, invalidProfile), content.ReasonOf(err) == "")
			continue
		}
		data, err := os.ReadFile(file)
		fmt.Println(filepath.Base(file), len(data), err)
	}
	// Output:
	// profile.json 107 <nil>
	// true true
}

// putProfile puts a profile into the registry, as security-profiles-operator writes it.
func putProfile(reg *pullertest.Registry, config, profile string) (image string) {
	return putProfileLayer(reg, config, "application/json", profile)
}

func putProfileLayer(reg *pullertest.Registry, config, mediaType, layer string) (image string) {
	part := func(mediaType, data string) string {
		desc := reg.PutBlob("profiles/web", mediaType, []byte(data))
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, desc.MediaType, desc.Digest, desc.Size)
	}
	desc := reg.PutManifest("profiles/web:v1", ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"mediaType":"`+ocispec.MediaTypeImageManifest+
		`","artifactType":"`+config+`","config":`+part(config, "{}")+`,"layers":[`+part(mediaType, layer)+`]}`))
	return reg.Host() + "/profiles/web@" + desc.Digest.String()
}
