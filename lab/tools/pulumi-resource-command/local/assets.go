package local

import (
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/gobwas/glob"
	"github.com/pulumi/pulumi-go-provider/infer/types"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// collect puts the files that assetPaths and archivePaths ask for into the outputs.
func (s *State) collect(dir string) error {
	if s.AssetPaths != nil {
		paths, err := match(dir, *s.AssetPaths)
		if err != nil {
			return err
		}
		assets := map[string]*types.AssetOrArchive{}
		for _, name := range paths {
			asset, err := resource.NewPathAsset(path.Join(dir, name))
			if err != nil {
				return err
			}
			assets[name] = &types.AssetOrArchive{Asset: asset}
		}
		s.Assets = &assets
	}
	if s.ArchivePaths != nil {
		paths, err := match(dir, *s.ArchivePaths)
		if err != nil {
			return err
		}
		content := map[string]any{}
		for _, name := range paths {
			if content[name], err = resource.NewPathAsset(path.Join(dir, name)); err != nil {
				return err
			}
		}
		if s.Archive, err = resource.NewAssetArchive(content); err != nil {
			return err
		}
	}
	return nil
}

// match lists the files under dir, as slash-separated paths relative to it, that the rules select.
// The last rule that matches a file decides; one that begins with "!" takes the file out.
func match(dir string, rules []string) ([]string, error) {
	globs := make([]glob.Glob, len(rules))
	for i, rule := range rules {
		var err error
		if globs[i], err = glob.Compile(strings.TrimPrefix(rule, "!"), '/'); err != nil {
			return nil, err
		}
	}
	var matched []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		for i := len(rules) - 1; i >= 0; i-- {
			if globs[i].Match(name) {
				if !strings.HasPrefix(rules[i], "!") {
					matched = append(matched, name)
				}
				break
			}
		}
		return nil
	})
	return matched, err
}
