package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/pkg/sftp"
	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"
	"github.com/pulumi/pulumi-go-provider/infer/types"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// CopyToRemote puts a file, a text or a directory on another machine, as command:remote:CopyToRemote.
// It removes nothing: deleting the resource leaves the copy where it is.
type CopyToRemote struct{}

// CopyToRemoteInputs are the arguments of a CopyToRemote.
type CopyToRemoteInputs struct {
	Connection *Connection `pulumi:"connection" provider:"secret"`
	// Triggers are values of any type; a change of any of them replaces the resource.
	Triggers   *[]any               `pulumi:"triggers,optional" provider:"replaceOnChanges"`
	Source     types.AssetOrArchive `pulumi:"source"`
	RemotePath string               `pulumi:"remotePath"`
}

// CopyToRemoteState is what Pulumi keeps of a CopyToRemote.
type CopyToRemoteState struct{ CopyToRemoteInputs }

// Check refuses a source that is neither a file, a text nor a local archive or directory.
func (*CopyToRemote) Check(ctx context.Context, req infer.CheckRequest) (infer.CheckResponse[CopyToRemoteInputs], error) {
	inputs, failures, err := infer.DefaultCheck[CopyToRemoteInputs](ctx, req.NewInputs)
	refuse := func(property, reason string) {
		failures = append(failures, p.CheckFailure{Property: property, Reason: reason})
	}
	asset, archive := inputs.Source.Asset, inputs.Source.Archive
	switch {
	case err != nil:
	case asset != nil && archive != nil:
		refuse("asset", "only one of asset or archive can be set")
	case asset == nil && archive == nil:
		refuse("asset", "either asset or archive must be set")
	case asset != nil && !asset.IsPath() && !asset.IsText():
		refuse("asset", "asset must be a path-based file asset or a text asset")
	case archive != nil && !archive.IsPath():
		refuse("archive", "archive must be a path to a file or directory")
	}
	return infer.CheckResponse[CopyToRemoteInputs]{Inputs: inputs, Failures: failures}, err
}

// Create copies.
func (*CopyToRemote) Create(
	ctx context.Context, req infer.CreateRequest[CopyToRemoteInputs],
) (response infer.CreateResponse[CopyToRemoteState], err error) {
	response.Output.CopyToRemoteInputs = req.Inputs
	if req.DryRun {
		return response, nil
	}
	if err := req.Inputs.copy(ctx); err != nil {
		return response, err
	}
	response.ID, err = resource.NewUniqueHex("", 8, 0)
	return response, err
}

// Update copies again if the content or its place changed; another connection alone copies nothing.
func (*CopyToRemote) Update(
	ctx context.Context, req infer.UpdateRequest[CopyToRemoteInputs, CopyToRemoteState],
) (infer.UpdateResponse[CopyToRemoteState], error) {
	response := infer.UpdateResponse[CopyToRemoteState]{Output: CopyToRemoteState{req.Inputs}}
	if req.DryRun {
		return response, nil
	}
	if req.Inputs.hash() == req.State.hash() && req.Inputs.RemotePath == req.State.RemotePath {
		return response, nil
	}
	return response, req.Inputs.copy(ctx)
}

func (c *CopyToRemoteInputs) hash() string {
	if c.Source.Archive != nil {
		return c.Source.Archive.Hash
	}
	return c.Source.Asset.Hash
}

func (c *CopyToRemoteInputs) copy(ctx context.Context) error {
	connection, err := c.Connection.dial(ctx)
	if err != nil {
		return err
	}
	defer connection.Close()
	client, err := sftp.NewClient(connection, sftp.UseConcurrentWrites(true))
	if err != nil {
		return err
	}
	defer client.Close()
	target := target{client}
	switch {
	case c.Source.Archive != nil:
		return target.copyPath(c.Source.Archive.Path, c.RemotePath)
	case c.Source.Asset.IsText():
		return target.copyText(c.Source.Asset.Text, c.RemotePath)
	default:
		return target.copyPath(c.Source.Asset.Path, c.RemotePath)
	}
}

// target is the machine that is copied to.
type target struct{ *sftp.Client }

func (t target) copyText(text, destination string) error {
	info, err := t.find(destination)
	if err != nil {
		return err
	}
	if info != nil && info.IsDir() {
		return fmt.Errorf("remote path %s is a directory; when using a text asset, remotePath must be a file path",
			destination)
	}
	return t.write(destination, strings.NewReader(text))
}

// copyPath copies a local file or directory. A file goes into a destination that is a directory,
// else becomes the destination. A directory goes into the destination, or, if its path ends in a
// slash, its content does.
func (t target) copyPath(source, destination string) error {
	sourceInfo, err := os.Stat(source)
	if err != nil {
		return err
	}
	info, err := t.find(destination)
	if err != nil {
		return err
	}
	if !sourceInfo.IsDir() {
		if info != nil && info.IsDir() {
			destination = path.Join(destination, filepath.Base(source))
		}
		return t.copyFile(os.DirFS(filepath.Dir(source)), filepath.Base(source), destination)
	}
	if !strings.HasSuffix(source, "/") {
		destination = path.Join(destination, filepath.Base(source))
	}
	tree := os.DirFS(source)
	return fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		place := path.Join(destination, name)
		if entry.IsDir() {
			return t.makeDirectory(place)
		}
		return t.copyFile(tree, name, place)
	})
}

func (t target) copyFile(tree fs.FS, name, destination string) error {
	file, err := tree.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	return t.write(destination, file)
}

func (t target) write(destination string, content io.Reader) (err error) {
	if err := t.makeDirectory(path.Dir(destination)); err != nil {
		return err
	}
	file, err := t.Create(destination)
	if err != nil {
		return fmt.Errorf("failed to create remote file %s: %w", destination, err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := file.ReadFrom(content); err != nil {
		return fmt.Errorf("failed to write remote file %s: %w", destination, err)
	}
	return nil
}

func (t target) makeDirectory(directory string) error {
	if err := t.MkdirAll(directory); err != nil {
		return fmt.Errorf("failed to create remote directory %s: %w", directory, err)
	}
	return nil
}

// find returns nil for a path that does not exist.
func (t target) find(name string) (fs.FileInfo, error) {
	info, err := t.Stat(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("failed to stat remote path %s: %w", name, err)
	}
	return info, nil
}
