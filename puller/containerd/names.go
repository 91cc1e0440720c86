package containerd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/internal/mediatype"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

// Labels that containerd and its CRI plugin read.
const (
	gcLabel     = "containerd.io/gc.ref.content"
	sourceLabel = "containerd.io/distribution.source"
	criLabel    = "io.cri-containerd.image"
	criManaged  = "managed"
	pinLabel    = "io.cri-containerd.pinned"
	pinned      = "pinned"
)

// maxLabel is the most bytes of the key and the value of a label.
const maxLabel = 4096

// Lookup returns the descriptor of the image record with ref's name. For a ref with a digest,
// Lookup uses only the repository and the digest: it finds the record of this name, or a record
// of another name in the repository that leads to the digest. The error wraps fs.ErrNotExist if
// the namespace does not have such an image.
func (s *Store) Lookup(ctx context.Context, ref reference.Reference) (ocispec.Descriptor, error) {
	name := recordName(ref)
	image, err := s.client.image(ctx, name)
	if err == nil {
		desc, err := descriptorOf(image)
		if err != nil || ref.Digest() == "" || desc.Digest == ref.Digest() {
			return desc, err
		}
	} else if ref.Digest() == "" || !errors.Is(err, fs.ErrNotExist) {
		return ocispec.Descriptor{}, err
	}
	images, err := s.client.list(ctx, "name~="+strconv.Quote(namesOf(ref)))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	for _, image := range images {
		top, err := descriptorOf(image)
		if err != nil || !strings.HasPrefix(image.GetName(), ref.Name()) {
			continue // a record of another client that Lookup cannot use
		}
		found, ok, err := s.within(ctx, top, ref.Digest())
		if ok || err != nil {
			return found, err
		}
	}
	return ocispec.Descriptor{}, fmt.Errorf("containerd: no image %q in namespace %s: %w", ref.String(), s.client.namespace, fs.ErrNotExist)
}

// within finds a stored manifest or index with digest d: desc itself, or one that desc leads to.
func (s *Store) within(ctx context.Context, desc ocispec.Descriptor, d digest.Digest) (found ocispec.Descriptor, ok bool, err error) {
	if desc.Digest == d {
		has, err := s.client.has(ctx, desc)
		return desc, has, err
	}
	err = ocilayout.Walk(ctx, unheld{s}, desc, map[digest.Digest]bool{}, func(below ocispec.Descriptor, stored bool) {
		isDocument := mediatype.IsIndex(below.MediaType) || mediatype.IsManifest(below.MediaType)
		if below.Digest == d && stored && isDocument {
			found, ok = below, true
		}
	})
	return found, ok, err
}

// unheld reads content without a lease.
type unheld struct{ *Store }

func (u unheld) Has(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	return u.client.has(ctx, desc)
}

// recordName returns the name of the image record for ref: with the digest if ref has one, and
// otherwise with the tag. containerd's own clients give records the same names.
func recordName(ref reference.Reference) string {
	if ref.Digest() != "" {
		ref = ref.WithoutTag()
	}
	return ref.String()
}

// namesOf returns a regular expression for the names of the records of ref's repository.
func namesOf(ref reference.Reference) string { return "^" + regexp.QuoteMeta(ref.Name()) + "[:@]" }

// wholeName returns the reference whose record has this name. ok is false if no reference has
// such a record.
func wholeName(name string) (ref reference.Reference, ok bool) {
	ref, err := reference.Parse(name)
	if err != nil || recordName(ref) != name {
		return reference.Reference{}, false
	}
	return ref, true
}

// descriptorOf returns the descriptor of an image record, which another client may have
// written.
func descriptorOf(image *imagesapi.Image) (ocispec.Descriptor, error) {
	t := image.GetTarget()
	desc := ocispec.Descriptor{MediaType: t.GetMediaType(), Digest: digest.Digest(t.GetDigest()), Size: t.GetSize()}
	if err := ocilayout.CheckDescriptor(desc); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("containerd: image %.200q: %w", image.GetName(), err)
	}
	return desc, nil
}

// Tag makes ref a name of desc, whose content must be stored. It makes an image record that
// containerd's clients find, and sets two kinds of labels of the content: labels by which the
// garbage collection keeps it, and labels that name the repository from which it came. In the
// namespace of Kubernetes, Tag also makes the records that CRI expects: a record with the digest
// of desc, and a record with the digest of the config, which is the ID of the image in CRI. If
// ref was the name of another image, the name moves to desc.
//
// The error wraps fs.ErrNotExist if desc is not stored. It also wraps fs.ErrNotExist if another
// program has removed content that this Store has stored or found before the image has a name.
func (s *Store) Tag(ctx context.Context, ref reference.Reference, desc ocispec.Descriptor) error {
	if err := ocilayout.CheckDescriptor(desc); err != nil {
		return err
	}
	release, err := s.Hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	all, err := s.keepTree(ctx, ref, desc)
	if err != nil {
		return err
	}
	names := []string{recordName(ref)}
	labels := map[string]string{}
	if s.client.namespace == KubernetesNamespace {
		id, err := s.imageID(ctx, desc)
		if err != nil {
			return err
		}
		if id != "" { // CRI knows only images that it can run
			names = append(names, string(id))
			labels[criLabel] = criManaged
		}
		if byDigest, err := ref.WithDigest(desc.Digest); err == nil {
			names = append(names, recordName(byDigest))
		}
	}
	if s.pin != nil && s.pin(ref) {
		labels[pinLabel] = pinned
	}
	slices.Sort(names[1:])
	for _, name := range slices.Compact(names) {
		if err := s.client.record(ctx, name, desc, labels); err != nil {
			return err
		}
	}
	s.holder.named(all)
	return nil
}

// keepTree sets the labels of all stored content that desc leads to, and returns the digests of
// this content.
func (s *Store) keepTree(ctx context.Context, ref reference.Reference, desc ocispec.Descriptor) ([]digest.Digest, error) {
	var stored []ocispec.Descriptor
	var missing []digest.Digest
	err := ocilayout.Walk(ctx, s, desc, map[digest.Digest]bool{}, func(d ocispec.Descriptor, has bool) {
		if has {
			stored = append(stored, d)
		} else {
			missing = append(missing, d.Digest)
		}
	})
	if err != nil {
		return nil, err
	}
	if len(missing) > 0 && missing[0] == desc.Digest {
		return nil, notStored(desc.Digest)
	}
	if d, ok := s.holder.lost(missing); ok {
		return nil, fmt.Errorf("%w: another program has removed it during the pull; pull the image again", notStored(d))
	}
	has := make(map[digest.Digest]bool, len(stored))
	all := make([]digest.Digest, 0, len(stored))
	for _, d := range stored {
		has[d.Digest] = true
		all = append(all, d.Digest)
	}
	// Children come after their parents in stored. They get their labels first, because
	// each label must lead to content that keeps what is below it.
	for _, d := range slices.Backward(stored) {
		labels, err := s.childLabels(ctx, d, has)
		if err != nil {
			return nil, err
		}
		if err := s.client.label(ctx, d.Digest, ref, labels); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// childLabels returns the labels by which a document keeps the stored content that it names.
func (s *Store) childLabels(ctx context.Context, desc ocispec.Descriptor, has map[digest.Digest]bool) (map[string]string, error) {
	doc, err := ocilayout.Read(ctx, s, desc)
	if errors.Is(err, ocilayout.ErrNoDocument) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	labels := map[string]string{}
	add := func(suffix string, child ocispec.Descriptor) {
		if has[child.Digest] {
			labels[gcLabel+suffix] = string(child.Digest)
		}
	}
	if doc.Config != nil {
		add(".config", *doc.Config)
	}
	for i, child := range doc.Layers {
		add(".l."+strconv.Itoa(i), child)
	}
	for i, child := range doc.Manifests {
		add(".m."+strconv.Itoa(i), child)
	}
	for i, child := range doc.Blobs {
		add("."+strconv.Itoa(i), child)
	}
	return labels, nil
}

// imageID returns the ID by which CRI knows an image on this machine: the digest of the
// config. It is "" for artifacts, and for images that are not stored for this machine's
// platform.
func (s *Store) imageID(ctx context.Context, desc ocispec.Descriptor) (digest.Digest, error) {
	read := func(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
		data, err := ocilayout.ReadBlob(ctx, s, d)
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: %w", index.ErrSkip, err)
		}
		return data, err
	}
	if !mediatype.IsIndex(desc.MediaType) && !mediatype.IsManifest(desc.MediaType) {
		return "", nil
	}
	data, err := ocilayout.ReadBlob(ctx, s, desc)
	if err != nil {
		return "", err
	}
	doc, err := index.Parse(desc.MediaType, data)
	if err != nil {
		return "", nil // the document is not an image that a runtime can use
	}
	found, err := index.Resolver{Fetch: read}.Resolve(ctx, desc, doc, Platform())
	if err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		if content.ReasonOf(err) == content.ErrStore {
			return "", err
		}
		return "", nil
	}
	config := found.Manifest.Config
	has, err := s.client.has(ctx, config)
	if err != nil || !has || !mediatype.IsConfig(config.MediaType) {
		return "", err
	}
	return config.Digest, nil
}

// image returns the image record of a name. The error wraps fs.ErrNotExist if it does not exist.
func (c *client) image(ctx context.Context, name string) (*imagesapi.Image, error) {
	call, cancel := c.call(ctx)
	defer cancel()
	resp, err := c.images.Get(call, &imagesapi.GetImageRequest{Name: name}, options...)
	return resp.GetImage(), fail(ctx, err, "look up image %.200q in namespace %s", name, c.namespace)
}

// list returns the image records that match one of the filters. Without a filter it returns all.
func (c *client) list(ctx context.Context, filters ...string) ([]*imagesapi.Image, error) {
	call, cancel := c.call(ctx)
	defer cancel()
	resp, err := c.images.List(call, &imagesapi.ListImagesRequest{Filters: filters}, options...)
	return resp.GetImages(), fail(ctx, err, "list images")
}

// record makes an image record, or changes the record that has this name. Labels that are not in
// labels stay.
func (c *client) record(ctx context.Context, name string, desc ocispec.Descriptor, labels map[string]string) error {
	call, cancel := c.call(ctx)
	defer cancel()
	image := &imagesapi.Image{
		Name: name, Labels: labels,
		Target: &types.Descriptor{MediaType: desc.MediaType, Digest: string(desc.Digest), Size: desc.Size},
	}
	mask := &fieldmaskpb.FieldMask{Paths: []string{"target"}}
	for key := range labels {
		mask.Paths = append(mask.Paths, "labels."+key)
	}
	for range 3 { // another client may make or remove the record between the calls
		_, err := c.images.Create(call, &imagesapi.CreateImageRequest{Image: image}, options...)
		if !is(err, codes.AlreadyExists) {
			return fail(ctx, err, "tag %.200q", name)
		}
		_, err = c.images.Update(call, &imagesapi.UpdateImageRequest{Image: image, UpdateMask: mask}, options...)
		if !is(err, codes.NotFound) {
			return fail(ctx, err, "tag %.200q", name)
		}
	}
	return &content.Error{Reason: content.ErrStore, Err: fmt.Errorf("containerd: tag %.200q: another client makes and removes this image", name)}
}

// label adds labels to content, and adds ref's repository to the label that lists the
// repositories from which the content came.
func (c *client) label(ctx context.Context, d digest.Digest, ref reference.Reference, labels map[string]string) error {
	info, ok, err := c.info(ctx, d)
	if err != nil {
		return err
	}
	if !ok {
		return notStored(d)
	}
	set := map[string]string{}
	for key, value := range labels {
		if info.GetLabels()[key] != value {
			set[key] = value
		}
	}
	key := sourceKey(ref)
	if value := withRepository(info.GetLabels()[key], ref.Repository()); value != info.GetLabels()[key] && len(key)+len(value) <= maxLabel {
		set[key] = value
	}
	if len(set) == 0 {
		return nil
	}
	mask := &fieldmaskpb.FieldMask{}
	for key := range set {
		mask.Paths = append(mask.Paths, "labels."+key)
	}
	call, cancel := c.call(ctx)
	defer cancel()
	_, err = c.content.Update(call, &contentapi.UpdateRequest{Info: &contentapi.Info{Digest: string(d), Labels: set}, UpdateMask: mask}, options...)
	return fail(ctx, err, "label blob %s", d)
}

// sourceKey returns the key of the label that lists the repositories of ref's registry from
// which content came. containerd writes the registry without its port.
func sourceKey(ref reference.Reference) string {
	host := ref.Registry()
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	return sourceLabel + "." + strings.Trim(host, "[]")
}

// withRepository returns the value list of the label that sourceKey names, with repository in it.
// The value is a sorted list with commas.
func withRepository(list, repository string) string {
	var all []string
	if list != "" {
		all = strings.Split(list, ",")
	}
	if slices.Contains(all, repository) {
		return list
	}
	all = append(all, repository)
	slices.Sort(all)
	return strings.Join(all, ",")
}

// isDigest reports whether the name of a record is a digest. CRI makes such a record for the ID
// of an image.
func isDigest(name string) bool { return verify.Digest(digest.Digest(name)) == nil }
