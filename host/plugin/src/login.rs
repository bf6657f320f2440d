//! Taking the login of a plugin and account away: whatever may know it ends, and it is loaded anew without.
//!
//! What a login is and where it is kept is the caller's; here is decided what becomes of what runs.

use std::future::Future;

use leanclaw_types::{Caller, Failure, PluginKey};

use crate::grants::finished;
use crate::installed::Loss;
use crate::runtime::{Plugins, actor};

impl Plugins {
    /// Runs `delete`, which is told who acts as audit rows name it, then ends what runs of the account and loads the plugin
    /// anew: an instance may hold what it got with its login. That is done also when `delete` fails, as it may have deleted a
    /// part. Carried out to its end even when the caller goes away.
    ///
    /// # Errors
    /// `not-found`; what `delete` says.
    pub async fn log_out<T, D, F>(&self, caller: &Caller, key: &PluginKey, delete: D) -> Result<T, Failure>
    where
        T: Send + 'static,
        D: FnOnce(String) -> F + Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let (plugins, by, key) = (self.clone(), actor(caller), key.clone());
        finished(tokio::spawn(async move {
            let decision = plugins.inner.decisions.lock().await;
            plugins.inspect(&key)?;
            let deleted = delete(by.clone()).await;
            let wish = plugins.inner.rights_changed(&key, Some(Loss::Login), &by);
            drop(decision);
            plugins.inner.fulfil_all(wish.into_iter().collect()).await;
            deleted
        }))
        .await
    }
}
