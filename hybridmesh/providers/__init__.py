"""Dynamic providers for what no plugin offers: a VM's preflight, token, membership and leaving, and what Istio leaves.

They run in the engine's plugin process. Pulumi stores a provider by reference to its class, so that an edit here
is no change of the resource; they keep no state of their own, and find the cluster by the path of a kubeconfig,
never its contents.
"""

from .adopted import AdoptedIstiod
from .adopters import ISTIOD, Adopters, AdoptersArgs
from .awaited import AwaitedAddress, AwaitedAddressArgs, AwaitedConfigMap, AwaitedConfigMapArgs
from .cluster import ClusterAccess
from .departure import Departure, DepartureArgs
from .lost import LostMachines
from .membership import Membership, MembershipArgs
from .preflight import PreflightArgs, PreflightCheck, PreflightVerdict
from .remains import IstioRemains, IstioRemainsArgs
from .token import IstioToken, IstioTokenArgs

__all__ = [
    "ISTIOD",
    "AdoptedIstiod",
    "Adopters",
    "AdoptersArgs",
    "AwaitedAddress",
    "AwaitedAddressArgs",
    "AwaitedConfigMap",
    "AwaitedConfigMapArgs",
    "ClusterAccess",
    "Departure",
    "DepartureArgs",
    "IstioRemains",
    "IstioRemainsArgs",
    "IstioToken",
    "IstioTokenArgs",
    "LostMachines",
    "Membership",
    "MembershipArgs",
    "PreflightArgs",
    "PreflightCheck",
    "PreflightVerdict",
]
