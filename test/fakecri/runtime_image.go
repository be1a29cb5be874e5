package fakecri

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// imageService is CRI's ImageService. Every image can be pulled, takes no time and is 42 MB; its id is the hash of its name.
type imageService struct {
	cri.UnimplementedImageServiceServer
	*node
}

func imageID(name string) string { return "sha256:" + hash(name) }

// findImage finds an image by name or id. The lock is held.
func (n *node) findImage(ref string) (*cri.Image, bool) {
	if im, ok := n.images.get(ref); ok {
		return im, ok
	}
	for _, im := range n.images.order {
		if im.Id == ref {
			return im, true
		}
	}
	return nil, false
}

// pull adds an image. The lock is held.
func (n *node) pull(spec *cri.ImageSpec) *cri.Image {
	name := spec.GetImage()
	if im, ok := n.findImage(name); ok {
		return im
	}
	repo, tag := name, ""
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		repo, tag = name[:i], name
	}
	im := &cri.Image{Id: imageID(name), RepoDigests: []string{repo + "@sha256:" + hash("digest "+name)}, Size: 42_000_000, Spec: &cri.ImageSpec{Image: name}}
	if tag != "" {
		im.RepoTags = []string{tag}
	}
	n.images.put(name, im)
	return im
}

func (s *imageService) PullImage(_ context.Context, req *cri.PullImageRequest) (*cri.PullImageResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if req.GetImage().GetImage() == "" {
		return nil, status.Error(codes.InvalidArgument, `failed to parse image reference "": invalid reference format`)
	}
	return &cri.PullImageResponse{ImageRef: s.pull(req.GetImage()).Id}, nil
}

// ImageStatus of an image that is not there is OK and empty.
func (s *imageService) ImageStatus(_ context.Context, req *cri.ImageStatusRequest) (*cri.ImageStatusResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	im, ok := s.findImage(req.GetImage().GetImage())
	if !ok {
		return &cri.ImageStatusResponse{}, nil
	}
	resp := &cri.ImageStatusResponse{Image: im}
	if req.GetVerbose() {
		resp.Info = map[string]string{"info": `{"chainID":"` + im.Id + `"}`}
	}
	return resp, nil
}

func (n *node) listImages(f *cri.ImageFilter) []*cri.Image {
	n.mu.Lock()
	defer n.mu.Unlock()
	ref := f.GetImage().GetImage()
	return n.images.where(func(im *cri.Image) bool { return ref == "" || ref == im.Spec.Image || ref == im.Id })
}

func (s *imageService) ListImages(_ context.Context, req *cri.ListImagesRequest) (*cri.ListImagesResponse, error) {
	return &cri.ListImagesResponse{Images: s.listImages(req.GetFilter())}, nil
}

func (s *imageService) StreamImages(req *cri.StreamImagesRequest, stream grpc.ServerStreamingServer[cri.StreamImagesResponse]) error {
	return sendChunks(s.listImages(req.GetFilter()), stream, func(chunk []*cri.Image) *cri.StreamImagesResponse {
		return &cri.StreamImagesResponse{Images: chunk}
	})
}

// RemoveImage of an image that is not there is OK.
func (s *imageService) RemoveImage(_ context.Context, req *cri.RemoveImageRequest) (*cri.RemoveImageResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if im, ok := s.findImage(req.GetImage().GetImage()); ok {
		s.images.drop(im.Spec.Image)
	}
	return &cri.RemoveImageResponse{}, nil
}

func (s *imageService) ImageFsInfo(context.Context, *cri.ImageFsInfoRequest) (*cri.ImageFsInfoResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fs := filesystem("/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs", 42_000_000*uint64(len(s.images.order)))
	return &cri.ImageFsInfoResponse{ImageFilesystems: []*cri.FilesystemUsage{fs}, ContainerFilesystems: []*cri.FilesystemUsage{fs}}, nil
}
