// Package containerd keeps images in containerd, where the kubelet, crictl and ctr find
// them. Its [Store] is a content.Store, so package transfer pulls into it with every
// credential of the Pod and the node, goes on within a blob after a failure, and reports
// progress.
//
// The calls most users need:
//
//	conn, err := grpc.NewClient("unix:///run/containerd/containerd.sock",
//		grpc.WithTransportCredentials(insecure.NewCredentials()))
//	store, err := containerd.New(conn, containerd.Config{})
//	rt, err := transfer.New(transfer.Config{Store: store})
//	p, err := puller.New(puller.Config{
//		Runtime: rt, Platform: containerd.Platform(), Admission: containerd.OnlyPublic(nil),
//	})
//
// The package has only the generated client of containerd's API, and not containerd. It was
// tested with containerd 1.6 and 2.4.
//
// # Every Pod of the node may use what is put there
//
// The kubelet takes an image that it did not pull itself for a preloaded one, and under its
// default policy every Pod may use a preloaded image without a secret. That is so also for an
// image that was pulled with a secret. [OnlyPublic] refuses such images. Programs that put
// them there on purpose leave it out, or need the kubelet's policy AlwaysVerify on that node.
// The socket of containerd gives control of the node, so only root can use it.
//
// # What a pull leaves in containerd
//
// A pulled image has the records and labels that it has after a pull by CRI: a record with its
// name, one with its digest, and one with its ID, which is the digest of its config; labels by
// which the garbage collection keeps its content; and labels that say from which repository
// the content came.
// The ID is that of the image for [Platform]. Other namespaces than Kubernetes' get only the
// record of the name. Docker Hub's images have their whole names, such as
// docker.io/library/busybox:1.36.
//
// Layers are not unpacked. containerd unpacks them for the first container of the image.
//
// # Until an image has its name
//
// containerd removes content that nothing leads to, after each removal of an image or a
// container. A lease keeps the content of a pull until the image has its name; see
// [Store.Hold]. After a pull that failed or was killed, the lease stays until it expires, so
// that the next pull of any process goes on from what has arrived, also within a blob.
//
// An ingest has the name that containerd's own clients give it. So if the kubelet pulls the
// same image at the same time, each blob is fetched by one of the two, and the other one
// waits for it.
//
// # Images that are in use
//
// In the namespace of Kubernetes a pulled image has a name with its digest too, so it stays
// listed when its tag moves to another image. Package gc keeps it while it is in use. In another
// namespace the image loses its last name, and the next garbage collection of containerd removes
// its content. A container that runs goes on, because its snapshots keep the unpacked layers.
// No other container can then be made from the image before it is pulled again. Pull an image
// that must stay by its digest too.
//
// # Left out
//
// The package does not start containers, unpack layers, or make namespaces. It does not use
// containerd's transfer service, which pulls by itself. containerd does not say how much room
// it has. So a pull that needs more room than there is does not fail before the room is used up.
package containerd
