package pullpolicy

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pullkit/pullkit/internal/strictjson"
)

// A PodImage is one place in a Pod that names an image. It is comparable: an image that is
// in a Pod before and after an update has equal PodImages.
type PodImage struct {
	// Path is the place in the Pod, for errors: "spec.initContainers[0]",
	// "spec.volumes[2]".
	Path   string
	Name   string // as written
	Policy Policy // as written; [Policy.OrDefault] fills it in
	Volume bool   // the image is for an image volume, not for a container
}

// field returns the path of the image's policy in the Pod.
func (i PodImage) field() string {
	if i.Volume {
		return i.Path + ".image.pullPolicy"
	}
	return i.Path + ".imagePullPolicy"
}

// NamePointer returns the JSON Pointer (RFC 6901) of the image's name in the Pod, for a JSON
// Patch: "/spec/containers/0/image", "/spec/volumes/2/image/reference".
func (i PodImage) NamePointer() string {
	if i.Volume {
		return pointer(i.Path) + "/image/reference"
	}
	return pointer(i.Path) + "/image"
}

// PolicyPointer returns the JSON Pointer (RFC 6901) of the image's policy in the Pod, for a
// JSON Patch: "/spec/containers/0/imagePullPolicy", "/spec/volumes/2/image/pullPolicy". The
// operation "add" sets the policy, whether or not the Pod has one.
func (i PodImage) PolicyPointer() string { return pointer(i.field()) }

var pathToPointer = strings.NewReplacer(".", "/", "[", "/", "]", "")

func pointer(path string) string { return "/" + pathToPointer.Replace(path) }

const (
	// maxPod is more bytes than the API server accepts for a request, 3 MiB, because it
	// may encode the object with more bytes than the client has sent.
	maxPod = 8 << 20
	// maxPodImages is more than fit into the 1.5 MiB that etcd stores.
	maxPodImages = 10_000
)

// Images returns all images that a Pod names, with their policies as written. pod is the
// Pod as JSON, for example the object of an AdmissionReview. First come the images of the
// init containers, then those of the containers, the ephemeral containers and the image
// volumes. An image that the Pod names twice is listed twice. A container without an image
// is listed with an empty Name, which the API server refuses.
//
// The error wraps [ErrPod] and names the field. Images refuses a document that is another
// kind of object or has no spec, so that a webhook does not admit what it cannot read. It
// also refuses a member that its object has twice or with another case ("Image"), because
// not all programs read such a Pod in the same way. A Pod may have at most 8 MiB and 10,000
// images.
func Images(pod []byte) ([]PodImage, error) {
	var p podReader
	if err := strictjson.Decode(pod, strictjson.Limits{Bytes: maxPod}, p.pod); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPod, err)
	}
	switch {
	case p.kind != "" && p.kind != "Pod":
		return nil, fmt.Errorf("%w: kind is %.80q; give the Pod itself", ErrPod, p.kind)
	case p.version != "" && p.version != "v1":
		return nil, fmt.Errorf("%w: apiVersion is %.80q; give a Pod of v1", ErrPod, p.version)
	case !p.spec:
		return nil, fmt.Errorf("%w: spec is %w", ErrPod, ErrRequired)
	}
	var all []PodImage
	for _, list := range p.lists {
		all = append(all, list...)
	}
	return all, nil
}

// podLists are the members of a Pod's spec that name images, in the order of Images.
var podLists = []string{"initContainers", "containers", "ephemeralContainers", "volumes"}

// A podReader collects the images of a Pod.
type podReader struct {
	kind, version string
	spec          bool // the Pod has a spec
	lists         [4][]PodImage
	images        int
}

func (p *podReader) pod(r *strictjson.Reader) error {
	return r.Object([]string{"apiVersion", "kind", "spec"}, func(key string) (err error) {
		switch key {
		case "apiVersion":
			p.version, err = r.String()
		case "kind":
			p.kind, err = r.String()
		case "spec":
			if r.Null() {
				return nil
			}
			p.spec = true
			err = r.Object(podLists, func(list string) error { return p.list(r, list) })
		}
		return err
	})
}

// list reads one of the podLists.
func (p *podReader) list(r *strictjson.Reader, name string) error {
	var images []PodImage
	err := r.Array(func(i int) error {
		image := PodImage{Path: "spec." + name + "[" + strconv.Itoa(i) + "]"}
		read := container
		if name == "volumes" {
			read = volume
		}
		listed, err := read(r, &image)
		if err != nil || !listed {
			return err
		}
		if p.images++; p.images > maxPodImages {
			return fmt.Errorf("it names more than %d images", maxPodImages)
		}
		images = append(images, image)
		return nil
	})
	for i, known := range podLists {
		if known == name {
			p.lists[i] = images
		}
	}
	return err
}

// container reads a container, which always needs an image.
func container(r *strictjson.Reader, image *PodImage) (listed bool, err error) {
	return true, r.Object([]string{"image", "imagePullPolicy"}, func(key string) error {
		return image.read(r, key == "image")
	})
}

// volume reads a volume. It returns false for a volume of another type than image.
func volume(r *strictjson.Reader, image *PodImage) (listed bool, err error) {
	err = r.Object([]string{"image"}, func(string) error {
		if r.Null() {
			return nil
		}
		image.Volume = true
		return r.Object([]string{"reference", "pullPolicy"}, func(key string) error {
			return image.read(r, key == "reference")
		})
	})
	return image.Volume, err
}

// read reads the image's name or its policy.
func (i *PodImage) read(r *strictjson.Reader, name bool) error {
	s, err := r.String()
	if name {
		i.Name = s
	} else {
		i.Policy = Policy(s)
	}
	return err
}
