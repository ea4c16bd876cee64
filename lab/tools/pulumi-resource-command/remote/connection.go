package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"
	"github.com/pulumi/pulumi/sdk/v3/go/common/util/retry"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// Connection says how to reach a machine, directly or through another one.
type Connection struct {
	endpoint
	Proxy *ProxyConnection `pulumi:"proxy,optional"`
}

// ProxyConnection says how to reach the machine through which a Connection goes.
type ProxyConnection struct{ endpoint }

type endpoint struct {
	User               *string  `pulumi:"user,optional"`
	Password           *string  `pulumi:"password,optional" provider:"secret"`
	Host               *string  `pulumi:"host"`
	Port               *float64 `pulumi:"port,optional"`
	PrivateKey         *string  `pulumi:"privateKey,optional" provider:"secret"`
	PrivateKeyPassword *string  `pulumi:"privateKeyPassword,optional" provider:"secret"`
	// AgentSocketPath defaults to the environment's SSH_AUTH_SOCK.
	AgentSocketPath *string `pulumi:"agentSocketPath,optional"`
	// DialErrorLimit is how many failed dials are followed by another one; -1 for no limit.
	DialErrorLimit *int `pulumi:"dialErrorLimit,optional"`
	// PerDialTimeout bounds the making of each TCP connection, in seconds; 0 for no bound.
	PerDialTimeout *int `pulumi:"perDialTimeout,optional"`
	// HostKey is the public key that the host must have, as in authorized_keys; without it any is taken.
	HostKey *string `pulumi:"hostKey,optional"`
}

// Annotate gives the defaults to the schema and, by way of Check, to every value in use.
func (c *Connection) Annotate(a infer.Annotator) { c.setDefaults(a) }

// Annotate gives the defaults to the schema and, by way of Check, to every value in use.
func (c *ProxyConnection) Annotate(a infer.Annotator) { c.setDefaults(a) }

func (e *endpoint) setDefaults(a infer.Annotator) {
	a.SetDefault(&e.User, "root")
	a.SetDefault(&e.Port, 22)
	a.SetDefault(&e.DialErrorLimit, 10)
	a.SetDefault(&e.PerDialTimeout, 15)
}

func (e *endpoint) address() string {
	return net.JoinHostPort(*e.Host, strconv.Itoa(int(*e.Port)))
}

// dial connects and logs in, trying again as the limits allow.
func (c *Connection) dial(ctx context.Context) (*ssh.Client, error) {
	config, done, err := c.clientConfig()
	if err != nil {
		return nil, err
	}
	defer done()
	if c.Proxy == nil {
		return persist(ctx, "Dial", *c.DialErrorLimit, func() (*ssh.Client, error) {
			return ssh.Dial("tcp", c.address(), config)
		})
	}
	client, err := c.dialThroughProxy(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	return client, nil
}

func (c *Connection) dialThroughProxy(ctx context.Context, config *ssh.ClientConfig) (*ssh.Client, error) {
	proxyConfig, done, err := c.Proxy.clientConfig()
	if err != nil {
		return nil, err
	}
	defer done()
	proxy, err := persist(ctx, "Dial proxy", *c.Proxy.DialErrorLimit, func() (*ssh.Client, error) {
		return ssh.Dial("tcp", c.Proxy.address(), proxyConfig)
	})
	if err != nil {
		return nil, err
	}
	client, err := persist(ctx, "Dial from proxy", *c.DialErrorLimit, func() (*ssh.Client, error) {
		tunnel, err := proxy.Dial("tcp", c.address())
		if err != nil {
			return nil, err
		}
		connection, channels, requests, err := ssh.NewClientConn(tunnel, c.address(), config)
		if err != nil {
			return nil, errors.Join(err, tunnel.Close())
		}
		return ssh.NewClient(connection, channels, requests), nil
	})
	if err != nil {
		return nil, errors.Join(err, proxy.Close())
	}
	go func() { // The way through the proxy lasts as long as what goes through it.
		_ = client.Wait()
		_ = proxy.Close()
	}()
	return client, nil
}

// clientConfig says how to log in. The function it returns is called once logged in.
func (e *endpoint) clientConfig() (*ssh.ClientConfig, func(), error) {
	done := func() {}
	config := &ssh.ClientConfig{
		User:            *e.User,
		Timeout:         time.Duration(*e.PerDialTimeout) * time.Second,
		HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	}
	if e.HostKey != nil {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(*e.HostKey))
		if err != nil {
			return nil, nil, fmt.Errorf("failed to parse host key: %w", err)
		}
		config.HostKeyCallback = ssh.FixedHostKey(key)
		config.HostKeyAlgorithms = []string{key.Type()}
	}
	if e.PrivateKey != nil {
		signer, err := e.signer()
		if err != nil {
			return nil, nil, err
		}
		config.Auth = append(config.Auth, ssh.PublicKeys(signer))
	}
	if e.Password != nil {
		answer := func(_, _ string, questions []string, _ []bool) ([]string, error) {
			answers := make([]string, len(questions))
			for i := range answers {
				answers[i] = *e.Password
			}
			return answers, nil
		}
		config.Auth = append(config.Auth, ssh.Password(*e.Password), ssh.KeyboardInteractive(answer))
	}
	socket := os.Getenv("SSH_AUTH_SOCK")
	if e.AgentSocketPath != nil {
		socket = *e.AgentSocketPath
	}
	if socket != "" {
		connection, err := net.Dial("unix", socket)
		if err != nil {
			return nil, nil, err
		}
		done = func() { _ = connection.Close() }
		config.Auth = append(config.Auth, ssh.PublicKeysCallback(agent.NewClient(connection).Signers))
	}
	return config, done, nil
}

func (e *endpoint) signer() (ssh.Signer, error) {
	if e.PrivateKeyPassword != nil {
		return ssh.ParsePrivateKeyWithPassphrase([]byte(*e.PrivateKey), []byte(*e.PrivateKeyPassword))
	}
	return ssh.ParsePrivateKey([]byte(*e.PrivateKey))
}

// persist calls attempt until it succeeds, has failed more than limit times (-1 for no limit), or
// the operation is cancelled.
func persist[T any](ctx context.Context, what string, limit int, attempt func() (T, error)) (result T, err error) {
	shownLimit := "inf"
	if limit >= 0 {
		shownLimit = strconv.Itoa(limit)
	}
	ended, _, err := retry.Until(ctx, retry.Acceptor{Accept: func(failures int, _ time.Duration) (bool, any, error) {
		var failure error
		if result, failure = attempt(); failure == nil {
			return true, nil, nil
		}
		if limit >= 0 && failures >= limit {
			return true, nil, fmt.Errorf("after %d failed attempts: %w", failures, failure)
		}
		p.GetLogger(ctx).InfoStatusf("%s %d/%s failed: retrying", what, failures+1, shownLimit)
		return false, nil, nil
	}})
	if err == nil && !ended {
		err = ctx.Err()
	}
	return result, err
}
